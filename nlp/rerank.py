"""Training a cross-encoder: of the texts that share a question's words it shall find the one that answers.

Each pair stands against hard negatives, which BM25 finds for the same left text, and against right texts of
other pairs of the batch; the loss is the cross-entropy of the right one among them (Gao, Dai and Callan,
ECIR 2021, "localized contrastive estimation").
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from nlp import layerwise
from nlp.coding import Coded, coded
from nlp.encoder import EncoderConfig, bfloat16_is_fast, locate
from nlp.finetune import Phase, account
from nlp.folder import digest, facts
from nlp.retrieval import Index
from nlp.training_config import BertDefaults
from profiles import manifest
from profiles.schema import ContractError
from recsys import training, watch
from recsys.training import TrainingConfig

if TYPE_CHECKING:
    import torch

    from nlp.cross_network import CrossNetwork

FORMAT = 1  # raise it when the same pairs and settings give other weights
PRODUCER = "rerank"
LISTED = 10  # places of MRR@10


class RerankConfig(BertDefaults, TrainingConfig):
    """Hyperparameters of a cross-encoder; those of the loop have defaults that suit a trained encoder."""

    model: str | None = Field(None, min_length=1, description="folder to begin from; null: all-MiniLM-L6-v2")
    mined: PositiveInt = Field(50, description="places of BM25 that hard negatives are drawn from")
    negatives: NonNegativeInt = Field(3, description="hard negatives drawn for a pair, each epoch anew")
    others: NonNegativeInt = Field(1, description="right texts of other pairs of the batch beside them")
    max_tokens: int = Field(256, ge=8, le=512, description="tokens of both texts; the model may cap it")
    layer_decay: float = Field(1.0, gt=0, le=1, description="rate of a layer over that of the one above it")
    head_rate: PositiveFloat = Field(10.0, description="times the rate, for what lies over the model")
    validation_share: float = Field(
        0.1, ge=0, lt=0.5, description="share of users, and of the end of time, that is validated by"
    )

    learning_rate: PositiveFloat = Field(5e-5, description="step size at its highest")
    batch_size: PositiveInt = Field(8, description="pairs a step, each with its negatives")
    epochs: PositiveInt = Field(2, description="passes over the pairs, at most")


@dataclass(frozen=True)
class Trained:
    """What came out: the folder, and MRR@10 of the right text among those mined, before and after."""

    folder: Path
    before: float | None
    after: float | None


def train(
    learned: pl.DataFrame,
    held: pl.DataFrame,
    config: RerankConfig,
    root: Path,
    further: Sequence[str] = (),
    phase: Phase = lambda _: nullcontext(),
    chosen: pl.DataFrame | None = None,
) -> Trained:
    """Train on PAIRS without scores and seal the cross-encoder in a folder under `root`.

    `held` are pairs to validate by, maybe none. `further` texts answer none of the questions and are
    negatives like the right texts of other pairs. `chosen` (user_id, text) is everything users chose: no
    negative of theirs. The folder is named by all it depends on; what is there already is returned as it is.
    """
    if len(learned) < 2:
        raise ContractError(
            f"{len(learned)} pairs are too few to learn from: give more texts, or a longer time"
        )
    if learned["score"].count() + held["score"].count():
        raise ContractError(
            "pairs with scores are for `attune finetune`: here one text answers, others do not"
        )
    if not config.negatives + config.others:
        raise ContractError("negatives = 0 and others = 0: a right text is told from no other")
    base = locate(EncoderConfig(model=config.model))
    assert isinstance(base, Path)  # nothing may be downloaded
    frames = (learned, held, *(() if chosen is None else (chosen,)))
    data = [manifest.digest(frame.write_ndjson().encode()) for frame in frames]
    settings = config.model_dump(mode="json", exclude={"model"})
    place = root / f"reranker-{manifest.content_key(FORMAT, digest(base), settings, data, list(further))}"
    if not place.exists():
        with watch.undertaking(place.name):
            _train(base, coded(learned, chosen), coded(held, chosen), config, place, further, phase)
    about = manifest.verify(place)
    return Trained(place, about["before"], about["after"])


def mine(pairs: Coded, further: Sequence[str], depth: int) -> tuple[list[str], np.ndarray]:
    """Return texts by code, `further` ones behind the pairs', and what words find that is wrong.

    The latter are (pairs, depth) codes, -1 where there is none: of all right texts and the `further` ones
    the first `depth` by BM25, but for those that are right too.
    """
    codes = {text: code for code, text in enumerate(pairs.texts)}
    more = [codes.setdefault(text, len(codes)) for text in further]
    texts, sought = list(codes), np.union1d(pairs.right, np.array(more, np.int64))
    lefts, back = np.unique(pairs.left, return_inverse=True)
    index = Index.of([texts[code] for code in sought])
    found = index.search([pairs.texts[code] for code in lefts], depth, by="words")
    listed = np.full((len(lefts), depth), -1)
    listed[found["query"].to_numpy(), found["rank"].to_numpy() - 1] = sought[found["text"].to_numpy()]
    mined = listed[back]
    mined[_right_too(pairs, np.arange(len(mined)), mined)] = -1
    return texts, mined


def _right_too(pairs: Coded, rows: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Return where a text (rows, n) is no negative of its pair; texts beyond the pairs' always are."""
    own = np.where(codes < len(pairs.texts), codes, -1)
    found = pairs.false_negatives(rows, own)
    return found & (own >= 0)


def candidates(
    pairs: Coded, mined: np.ndarray, rows: np.ndarray, config: RerankConfig, random: np.random.Generator
) -> np.ndarray:
    """Return (rows, 1 + negatives + others) codes, the right text's first; -1 where there is none."""
    pool = mined[rows]
    order = np.argsort(np.where(pool < 0, 2.0, random.random(pool.shape)), axis=1)[:, : config.negatives]
    drawn = pairs.right[rows[random.integers(len(rows), size=(len(rows), config.others))]]
    drawn[_right_too(pairs, rows, drawn)] = -1
    return np.concatenate(
        [pairs.right[rows][:, None], np.take_along_axis(pool, order, axis=1), drawn], axis=1
    )


class CrossReader:
    """A cross-network over texts by their codes."""

    def __init__(self, network: "CrossNetwork", tokenizer: Any, texts: list[str], max_tokens: int) -> None:
        self.network = network
        self.tokenizer = tokenizer
        self.texts = texts
        self.max_tokens = max_tokens

    def __call__(self, left: np.ndarray, right: np.ndarray) -> "torch.Tensor":
        """Return (rows, n) scores of each left text's candidates; -inf where the code is -1."""
        import torch

        from nlp.cross_network import tokenize

        row, column = np.nonzero(right >= 0)
        asked, given = ([self.texts[code] for code in side] for side in (left[row], right[row, column]))
        read = tokenize(self.tokenizer, asked, given, self.max_tokens)
        scores = self.network.read(read, self.tokenizer.pad_token_id or 0)
        found = torch.full(right.shape, -torch.inf, device=scores.device)
        found[torch.from_numpy(row), torch.from_numpy(column)] = scores
        return found


def judged(read: CrossReader, pairs: Coded, mined: np.ndarray) -> float:
    """Return the mean of 1 / rank of each right text among those mined, 0 past LISTED; ties count against."""
    import torch

    ranks = []
    with torch.no_grad():
        for row in range(len(mined)):
            codes = np.concatenate([pairs.right[[row]], mined[row]])[None]
            scores = read(pairs.left[[row]], codes)[0]
            ranks.append(1 + int((scores[1:] >= scores[0]).sum()))
    rank = np.array(ranks)
    return float(np.where(rank <= LISTED, 1 / rank, 0).mean())


def _train(
    base: Path,
    learned: Coded,
    held: Coded,
    config: RerankConfig,
    place: Path,
    further: Sequence[str],
    phase: Phase,
) -> None:
    from torch.nn import functional

    from nlp.cross_network import NEW, load

    limit = min(config.max_tokens, facts(base).get("max_position_embeddings", 512))
    with phase("mine"):
        texts, mined = mine(learned, further, config.mined)
    with training.reproducible(config.seed):
        tokenizer, network = load(base, begin=True)
        read = CrossReader(network, tokenizer, texts, limit)

        def loss(rows: np.ndarray, random: np.random.Generator) -> "torch.Tensor":
            scores = read(learned.left[rows], candidates(learned, mined, rows, config, random))
            return -functional.log_softmax(scores, dim=1)[:, 0].mean()

        judge: Callable[[], float] | None = None
        if len(held.left):
            others, found = mine(held, further, config.mined)
            judge = partial(judged, CrossReader(network, tokenizer, others, limit), held, found)
        with phase("validate"):
            before = judge and judge()
        task = training.Task(
            network, training.shuffled(len(learned.left), config.batch_size), loss, place.name, judge,
            ("batch_size", "negatives", "max_tokens"), bfloat16_is_fast(),
            groups=layerwise.groups(network, config.layer_decay, config.head_rate, NEW),
        )  # fmt: skip
        with phase("pairs"):
            trained = training.train(task, config)
        with phase("validate"):
            after = judge and judge()
    about = account(PRODUCER, base, config, learned, held, before, after, trained)
    with manifest.building(place, about) as folder:
        network.save(folder, tokenizer)
