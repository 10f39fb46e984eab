"""Fine-tuning: texts that belong together by what people did come to lie near each other.

One gradient loop does it (`recsys.training`): a run that was killed goes on from its last checkpoint to the
same bits. The result is a sealed folder that `[text] model = …` takes.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import polars as pl
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from nlp.coding import Coded, coded
from nlp.encoder import EncoderConfig, bfloat16_is_fast, locate, tokenize
from nlp.folder import Pooling, Recipe, digest, facts, recipe_of
from nlp.training_config import BertDefaults
from profiles import manifest
from profiles.schema import ContractError
from recsys import space, training, watch
from recsys.training import TrainingConfig

FORMAT = 1  # raise it when the same pairs and settings give other weights
METRICS = {"info_nce": "mrr@10", "cosent": "spearman", "regression": "spearman"}
INFO_NCE = {"objective": ("auto", "info_nce")}  # who reads a setting


class FinetuneConfig(BertDefaults, TrainingConfig):
    """Hyperparameters of fine-tuning; those of the loop have defaults that suit a trained encoder."""

    model: str | None = Field(None, min_length=1, description="folder to begin from; null: all-MiniLM-L6-v2")
    objective: Literal["auto", "info_nce", "cosent", "regression"] = Field(
        "auto", description="auto: cosent where pairs have scores, else info_nce"
    )
    temperature: Annotated[
        PositiveFloat, space.Tuned(0.01, 0.2, log=True, where={"objective": ("auto", "info_nce", "cosent")})
    ] = Field(0.05, description="of info_nce and, inverted, cosent's scale")
    negatives: Annotated[NonNegativeInt, space.Tuned(0, 4, where=INFO_NCE)] = Field(
        1, description="hard negatives drawn for a pair, where there are some"
    )
    method: Literal["full", "head", "lora"] = Field(
        "full", description="what learns: all weights, only what lies over the model, or low-rank additions"
    )
    layer_decay: Annotated[float, space.Tuned(0.6, 1, where={"method": ("full",)})] = Field(
        1.0, gt=0, le=1, description="rate of a layer over that of the one above it"
    )
    head_rate: PositiveFloat = Field(10.0, description="times the rate, for what lies over the model")
    lora_rank: Annotated[PositiveInt, space.Tuned(2, 64, log=True, where={"method": ("lora",)})] = Field(
        16, description="inner size of the additions of lora"
    )
    pooling: Pooling | None = Field(
        None, description="mean, cls or attention; null: as the model's folder says"
    )
    projection: PositiveInt | None = Field(None, description="values of a vector after a new linear map")
    sizes: tuple[PositiveInt, ...] = Field(
        (), description="shorter lengths that vectors shall be good at too"
    )
    max_tokens: int = Field(128, ge=3, le=512, description="tokens read of a text; the model may cap it")
    chunk_tokens: PositiveInt = Field(
        2048,
        description="tokens in memory at once; a larger batch is learned in chunks, the gradient the same",
    )
    simcse_epochs: NonNegativeInt = Field(
        0, description="passes over all texts first, each with itself under another dropout (SimCSE)"
    )
    mlm_epochs: NonNegativeInt = Field(
        0, description="passes over all texts before that, foretelling masked tokens"
    )
    validation_share: float = Field(
        0.1, ge=0, lt=0.5, description="share of users, and of the end of time, that is validated by"
    )

    learning_rate: Annotated[PositiveFloat, space.Tuned(5e-6, 1e-3, log=True)] = Field(
        5e-5, description="step size at its highest"
    )
    batch_size: Annotated[PositiveInt, space.Tuned(among=(16, 32, 64, 128, 256))] = Field(
        64, description="pairs a step: each is a negative of all others"
    )
    epochs: Annotated[PositiveInt, space.Tuned(1, 10, log=True)] = Field(
        3, description="passes over the pairs, at most"
    )


@dataclass(frozen=True)
class Tuned:
    """What came out: the folder, and how the validation pairs ranked before and after."""

    folder: Path
    metric: str  # spearman, or mrr@10 among the distinct right texts
    before: float | None
    after: float | None


Phase = Callable[[str], AbstractContextManager[object]]


def finetune(
    train: pl.DataFrame,
    validation: pl.DataFrame,
    config: FinetuneConfig,
    root: Path,
    chosen: pl.DataFrame | None = None,
    hard: pl.DataFrame | None = None,
    phase: Phase = lambda _: nullcontext(),
) -> Tuned:
    """Fine-tune on PAIRS and seal the encoder in a folder under `root`, named by all it depends on.

    `chosen` (user_id, text) is everything users chose: no negative of theirs. `hard` (user_id, text) is what
    they are recommended: drawn from as their negatives. What is there already is returned as it is. `phase`
    surrounds each part of the work. Raises ContractError where there is too little to learn from, or where
    only some pairs have a score.
    """
    base = _base(config)
    objective = objective_of(train, config)
    place = root / f"tuned-{key_of(config, train, validation, chosen, hard)}"
    if not place.exists():
        learned, held = coded(train, chosen, hard), coded(validation, chosen)
        with watch.undertaking(place.name):
            _tune(base, learned, held, objective, config, place, phase)
    told = manifest.verify(place)
    return Tuned(place, told["metric"], told["before"], told["after"])


def key_of(config: FinetuneConfig, *frames: pl.DataFrame | None) -> str:
    """Stand for all that fine-tuning depends on: the model's files, settings, pairs and choices."""
    data = [None if frame is None else manifest.digest(frame.write_ndjson().encode()) for frame in frames]
    return manifest.content_key(FORMAT, digest(_base(config)), config.model_dump(exclude={"model"}), data)


def _base(config: FinetuneConfig) -> Path:
    """Return the folder it begins from."""
    base = locate(EncoderConfig(model=config.model))
    assert isinstance(base, Path)  # nothing may be downloaded
    return base


def objective_of(pairs: pl.DataFrame, config: FinetuneConfig) -> str:
    """Return the loss that pairs ask for; raises ContractError where they cannot be learned from."""
    scored = len(pairs) - pairs["score"].null_count()
    if len(pairs) < 2:
        raise ContractError(
            f"{len(pairs)} pairs are too few to learn from: give more texts, or a longer time"
        )
    if 0 < scored < len(pairs):
        raise ContractError(f"{scored} of {len(pairs)} pairs have a score: give all of them one, or none")
    if config.objective == "auto":
        return "cosent" if scored else "info_nce"
    if (config.objective == "info_nce") == bool(scored):
        wanted = "without" if scored else "with"
        raise ContractError(f'objective = "{config.objective}" is for pairs {wanted} scores')
    return config.objective


def recipe_for(base: Path, config: FinetuneConfig) -> Recipe:
    """Return how the tuned encoder pools: as the folder it begins from, but for what the settings name."""
    begun = recipe_of(base)
    recipe = Recipe(
        pooling=config.pooling or begun.pooling,
        projection=config.projection or begun.projection,
        sizes=config.sizes or begun.sizes,
    )
    whole = recipe.projection or facts(base)["hidden_size"]
    if wrong := [size for size in recipe.sizes if size >= whole]:
        raise ContractError(f"sizes = {list(recipe.sizes)}: {wrong[0]} is not below the vector's {whole}")
    return recipe


def _tune(
    base: Path, learned: Coded, held: Coded, objective: str, config: FinetuneConfig, place: Path, phase: Phase
) -> None:
    from nlp import layerwise
    from nlp.masking import MaskedLanguage, mlm
    from nlp.network import begin
    from nlp.tasks import Reader, judged, pairs, simcse

    key, limit = place.name, min(config.max_tokens, facts(base).get("max_position_embeddings", 512))
    with training.reproducible(config.seed):
        tokenizer, network = begin(base, recipe_for(base, config))
        read, validation = (
            Reader(network, tokenize(tokenizer, c.texts, limit), tokenizer.pad_token_id, config.chunk_tokens)
            for c in (learned, held)
        )
        judge: Callable[[], float] | None = partial(judged, validation, held) if len(held.left) else None
        with phase("validate"):
            before = judge and judge()
        if config.mlm_epochs:
            module = MaskedLanguage(network.body)
            task = mlm(module, read.tokens, tokenizer, config.batch_size, 0.15, key, bfloat16_is_fast())
            with phase("masked tokens"):
                training.train(task, _passes(config, config.mlm_epochs))
        if config.simcse_epochs:
            with phase("texts with themselves"):
                training.train(
                    simcse(read, len(read.tokens), config, key), _passes(config, config.simcse_epochs)
                )
        if config.method == "head":
            layerwise.freeze_body(network)
        elif config.method == "lora":
            layerwise.add_lora(network, config.lora_rank)
        with phase("pairs"):
            trained = training.train(pairs(read, learned, objective, config, key, judge), config)
        layerwise.merge_lora(network)
        with phase("validate"):
            after = judge and judge()
    about = account("finetune", base, config, learned, held, before, after, trained)
    about["metric"] = METRICS[objective]
    with manifest.building(place, about) as folder:
        network.save(folder, tokenizer)


def account(
    producer: str,
    base: Path,
    config: TrainingConfig,
    learned: Coded,
    held: Coded,
    before: float | None,
    after: float | None,
    trained: training.Trained,
) -> dict[str, Any]:
    """Return what the manifest of a model that learned from pairs says."""
    return {
        "producer": producer,
        "base": base.name,
        "settings": config.model_dump(mode="json", exclude={"model"}),
        "pairs": {"learned": len(learned.left), "validated": len(held.left)},
        "before": before,
        "after": after,
        "losses": trained.losses,
        "best_epoch": trained.best_epoch,
    }


def _passes(config: FinetuneConfig, epochs: int) -> FinetuneConfig:
    return config.model_copy(update={"epochs": epochs, "patience": 0})
