"""Order as the sequence recommenders read it: tokens, windows, hold-out, fit and score around a network.

A token is a learned item, counted from 0. Items that nobody did before or after another are not
learned: they are left out of histories, and their score is NaN.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator
from scipy.sparse import csr_matrix

from recsys import training, watch
from recsys.dataset import Dataset, Histories, Queries, Repeats
from recsys.space import Tuned
from recsys.warm import beginning

if TYPE_CHECKING:
    import torch

    from recsys.networks.sequence import Batch, Network

MEMORY = ("batch_size", "max_length", "factors")
HELD = 10  # NDCG@HELD is what early stopping looks at
HELD_BLOCK = 256  # users validated at a time

Weights = dict[str, np.ndarray]
Build = Callable[[np.ndarray], "Network"]  # from how often each token occurs, (n,)


class SequenceConfig(BaseModel):
    """Hyperparameters of every sequence recommender."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_length: PositiveInt = Field(200, description="newest tokens of a history that are read")
    factors: Annotated[PositiveInt, Tuned(among=(32, 64, 128))] = Field(
        64, description="length of an item's vector"
    )
    dropout: Annotated[float, Tuned(0, 0.5)] = Field(
        0.2, ge=0, lt=1, description="share of hidden values set to 0 while training"
    )
    validation_users: PositiveInt = Field(
        2000, description="with patience: users whose last item is held out of the training to stop by"
    )


class AttentionConfig(BaseModel):
    """Hyperparameters of those that attend, beside SequenceConfig."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    blocks: Annotated[PositiveInt, Tuned(1, 3)] = Field(2, description="layers of attention")
    heads: PositiveInt = Field(1, description="attentions side by side; they divide `factors`")

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        factors = self.model_dump()["factors"]  # of SequenceConfig
        if factors % self.heads:
            raise ValueError(f"heads = {self.heads} does not divide factors = {factors}")
        return self


@dataclass(frozen=True)
class Tokens:
    """Ragged rows of tokens, oldest first, with what each weighs as a target."""

    offsets: np.ndarray  # (n + 1,) int64
    tokens: np.ndarray  # int64
    values: np.ndarray  # float32

    @classmethod
    def of(cls, histories: Histories, repeats: Repeats, token: np.ndarray) -> Self:
        """Read histories; `token` (items,) is each item's token, -1 where it has none.

        binary and last: a pair is one token at its newest moment, of weight 1 or of its weight then.
        sum and log: every repeat is a token, of its weight or its log(1 + weight).
        """
        rows, found = histories.rows, token[histories.items]
        keep = found >= 0
        if repeats in ("binary", "last"):
            keys = rows * (len(token) + 1) + found
            order = np.lexsort((-histories.times, keys))  # stable: of equal moments the first in the log
            first = np.concatenate([[True], np.diff(keys[order]) != 0])[: len(keys)]
            newest = np.zeros(len(keys), bool)
            newest[order[first]] = True
            keep &= newest
        weights = histories.weights[keep]
        values = {"binary": np.ones_like(weights), "log": np.log1p(weights)}.get(repeats, weights)
        counts = np.bincount(rows[keep], minlength=len(histories))
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return cls(offsets, found[keep].astype(np.int64), values.astype(np.float32))

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each row, (n,)."""
        return np.diff(self.offsets)

    def without_last(self, rows: np.ndarray) -> tuple[Self, np.ndarray]:
        """Take the last token of some rows away; returns the rest and what was taken."""
        place = self.offsets[rows + 1] - 1
        keep = np.ones(len(self.tokens), bool)
        keep[place] = False
        counts = self.lengths
        counts[rows] -= 1
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return type(self)(offsets, self.tokens[keep], self.values[keep]), self.tokens[place]

    def padded(self, rows: np.ndarray, limit: int, device: "torch.device | None" = None) -> "Batch":
        """Return the newest `limit` tokens of some rows as a batch."""
        import torch

        from recsys.networks.sequence import Batch

        lengths = np.minimum(self.lengths[rows], limit)
        places = np.arange(lengths.max(initial=1))
        at = (self.offsets[rows + 1] - lengths)[:, None] + places
        real = places < lengths[:, None]
        at = np.where(real, at, 0)
        arrays = (self.tokens[at] * real, lengths, self.values[at] * real)
        return Batch(*(torch.from_numpy(array).to(device) for array in arrays))

    @cached_property
    def _weighed(self) -> np.ndarray:
        return np.concatenate([[0.0], np.cumsum(self.values, dtype=np.float64)])

    def weight(self, rows: np.ndarray, limit: int) -> float:
        """Return what the newest `limit` tokens of some rows weigh as targets, without the first of each."""
        stop = self.offsets[rows + 1]
        first = np.maximum(self.offsets[rows], stop - limit) + 1
        return float((self._weighed[stop] - self._weighed[first]).sum())

    def batches(
        self, rows: np.ndarray, size: int, limit: int
    ) -> Callable[[np.random.Generator], Sequence[np.ndarray]]:
        """Return batches of rows of about equal length, each of as many tokens as `size` mean rows.

        Rows are sorted by a length blurred anew each epoch, so batches differ and little is padded; a
        batch of short rows holds more of them, so that every token weighs alike.
        """
        lengths = np.minimum(self.lengths[rows], limit)
        budget = size * lengths.mean() if len(rows) else 1.0

        def draw(random: np.random.Generator) -> Sequence[np.ndarray]:
            order = np.argsort(lengths * np.exp(random.normal(0, 0.2, len(rows))), kind="stable")
            batch = (np.cumsum(lengths[order]) - 1) // budget
            cuts = np.flatnonzero(np.diff(batch)) + 1
            parts = np.split(rows[order], cuts) if len(rows) else []
            return [parts[n] for n in random.permutation(len(parts))]

        return draw


@dataclass(frozen=True)
class Fitted:
    """What a network learned, as arrays over the whole catalogue."""

    factors: np.ndarray  # (items, d) float32, the output table; NaN rows for items that were not learned
    weights: Weights  # the network's other parameters


def fit(
    train: Dataset,
    config: Any,
    build: Build,
    bfloat16: bool = False,
    before: tuple[Fitted, np.ndarray] | None = None,
) -> Fitted:
    """Fit the network that `build` makes for token counts (n,), and read its arrays.

    `config` is a RecommenderConfig, SequenceConfig and TrainingConfig in one. `before` is what was learned
    earlier, and each item's row in it, -1 for new ones: the network begins there.
    """
    everything = Tokens.of(train.histories, config.repeats, np.arange(len(train.items)))
    paired = np.repeat(everything.lengths > 1, everything.lengths)
    known = np.unique(everything.tokens[paired])
    if not len(known):
        return Fitted(np.full((len(train.items), 1), np.nan, np.float32), {})
    data, held = Tokens.of(train.histories, config.repeats, token_of(known, len(train.items))), None
    if config.patience:
        data, held = _held_out(data, config.validation_users, config.seed)
    rows = np.flatnonzero(data.lengths > 1)
    with training.reproducible(config.seed):
        network = build(np.bincount(data.tokens, minlength=len(known)))
    if before is not None:
        _begin(network, *before, known, train.matrix("binary"))
    place = watch.device()
    batches = data.batches(rows, config.batch_size, config.max_length + 1)
    training.train(
        training.Task(
            network,  # type: ignore[arg-type]
            batches,
            lambda rows, random: network.loss(data.padded(rows, config.max_length + 1, place), random),
            training.fingerprint(data.offsets, data.tokens, data.values),
            None if held is None else lambda: _ndcg(network, data, *held, config.max_length, place),
            MEMORY,
            bfloat16,
            lambda rows: data.weight(rows, config.max_length + 1),
        ),
        config,
    )
    table = network.table().detach().numpy()
    factors = np.full((len(train.items), table.shape[1]), np.nan, np.float32)
    factors[known] = table
    return Fitted(factors, _weights(network))


def _begin(network: "Network", old: Fitted, rows: np.ndarray, known: np.ndarray, matrix: csr_matrix) -> None:
    """Give a network over the items `known` what was learned earlier; `rows` are the items' rows in that."""
    import torch

    learned = ~np.isnan(old.factors[:, 0])
    weights = old.weights
    if network.tied:
        weights = weights | {"items.weight": old.factors[learned, : network.items.weight.shape[1]]}
    state = {name: torch.from_numpy(np.array(value)) for name, value in weights.items()}
    for name in network.per_item:
        vectors = np.full((len(learned), weights[name][0].size), np.nan, np.float32)
        vectors[learned] = weights[name].reshape(-1, vectors.shape[1])
        first = beginning(vectors, rows, matrix)
        assert first is not None  # something was learned earlier
        state[name] = torch.from_numpy(first[known]).reshape(-1, *weights[name].shape[1:])
    network.load_state_dict(state)  # type: ignore[attr-defined]


def token_of(known: np.ndarray, items: int) -> np.ndarray:
    """Return each item's token, (items,) int64, -1 where it is not among the rows `known`."""
    token = np.full(items, -1, np.int64)
    token[known] = np.arange(len(known))
    return token


def network_of(factors: np.ndarray, weights: Weights, build: Build) -> "Network":
    """Make the network that `fit` read, in float64 on the CPU: it answers alike alone and in a batch."""
    import torch

    known = ~np.isnan(factors[:, 0])
    with training.reproducible(0):
        network = build(np.ones(known.sum(), np.int64))
    state = {name: torch.from_numpy(np.array(value)) for name, value in weights.items()}
    if network.tied:
        wide = network.items.weight.shape[1]
        state["items.weight"] = torch.from_numpy(factors[known, :wide])
    network.load_state_dict(state)  # type: ignore[attr-defined]
    network.double().eval()  # type: ignore[attr-defined]
    network.items.float()  # the one large table: what is looked up in it is widened
    return network


class Sequential:
    """What a recommender around a network that reads tokens shares; it gives the network.

    score(i) = q(history)'e_i; a history without a learned item is NaN.
    """

    config: Any  # a RecommenderConfig, SequenceConfig and TrainingConfig in one
    cost: ClassVar[str] = "gradient"
    needs: ClassVar[str] = "order"
    state: ClassVar[tuple[str, ...]] = ("factors", "weights")
    products: ClassVar[str] = "factors"
    bfloat16: ClassVar[bool] = False  # whether autocast is worth it on a CPU too
    factors: np.ndarray  # (items, d) float32, the output table; NaN rows for items that were not learned
    weights: Weights

    @abstractmethod
    def _build(self, counts: np.ndarray) -> "Network":
        """Make the network for tokens that occur so often, (n,)."""

    @cached_property
    def _network(self) -> "Network":
        return network_of(self.factors, self.weights, self._build)

    def _fit(self, train: Dataset) -> None:
        self._train(train, self.config)

    def _update(self, train: Dataset, rows: np.ndarray) -> None:
        if np.isnan(self.factors[rows[rows >= 0], 0]).all():
            self._fit(train)  # nothing that was learned is left to go on from
        else:
            before = Fitted(self.factors, self.weights), rows
            self._train(train, training.of_update(self.config), before)

    def _train(self, train: Dataset, config: Any, before: tuple[Fitted, np.ndarray] | None = None) -> None:
        fitted = fit(train, config, self._build, self.bfloat16, before)
        self.__dict__.pop("_network", None)
        self.factors, self.weights = fitted.factors, fitted.weights

    def _users(self, queries: Queries) -> np.ndarray:
        import torch

        known = np.flatnonzero(~np.isnan(self.factors[:, 0]))
        data = Tokens.of(queries.histories, self.config.repeats, token_of(known, len(self.factors)))
        asked = np.flatnonzero(data.lengths)
        users = np.full((len(queries), self.factors.shape[1]), np.nan)
        if len(asked):
            batch = data.padded(asked, self.config.max_length)
            with torch.inference_mode():
                users[asked] = self._network.query(batch.tokens, batch.lengths).numpy()
        return users


def _held_out(data: Tokens, users: int, seed: int) -> tuple[Tokens, tuple[np.ndarray, np.ndarray] | None]:
    """Hold the last token of some rows out; returns the rest, and those rows with their tokens."""
    long = np.flatnonzero(data.lengths > 2)
    if not len(long):
        return data, None
    rows = np.sort(np.random.default_rng(seed).choice(long, min(users, len(long)), replace=False))
    data, truth = data.without_last(rows)
    return data, (rows, truth)


def _ndcg(
    network: "Network",
    data: Tokens,
    rows: np.ndarray,
    truth: np.ndarray,
    limit: int,
    place: "torch.device",
) -> float:
    """Return NDCG@HELD of the held-out tokens over all tokens, those of the history masked."""
    import torch

    table, total = network.table(), 0.0
    for start in range(0, len(rows), HELD_BLOCK):
        part = rows[start : start + HELD_BLOCK]
        batch = data.padded(part, limit, place)
        scores = network.query(batch.tokens, batch.lengths) @ table.T
        seen = data.padded(part, int(data.lengths[part].max()), place)
        right = torch.from_numpy(truth[start : start + HELD_BLOCK]).to(place)[:, None]
        wanted = scores.gather(1, right)
        # A place past the end repeats the first token, so that padding masks nothing else.
        scores.scatter_(1, torch.where(seen.real, seen.tokens, seen.tokens[:, :1]), -torch.inf)
        rank = 1 + (scores > wanted).sum(1)
        total += float(torch.where(rank <= HELD, 1 / torch.log2(rank + 1.0), 0.0).sum())
    return total / len(rows)


def _weights(network: "Network") -> Weights:
    state: Mapping[str, torch.Tensor] = network.state_dict()  # type: ignore[attr-defined]
    tied = {"items.weight"} if network.tied else set()
    return {name: value.numpy().copy() for name, value in state.items() if name not in tied}
