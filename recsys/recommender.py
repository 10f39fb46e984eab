"""What a recommender is: final fit, update, score, rank, recommend, save, load around `_fit` and `_score`.

Scores are computed in blocks of BLOCK queries. What a query scores does not hang on who else is in its
block: every sum over a query's own numbers is float64, or in an order of its own, and is rounded once.
So a live request and a batch rank the same list.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Self, final

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field
from safetensors.numpy import load_file, save_file
from scipy.sparse import csr_matrix, issparse

from profiles.schema import ContractError
from recsys.dataset import Catalogue, Dataset, Queries, Repeats, Vocabulary
from recsys.products import Table
from recsys.ranking import Ranked, top_k, top_k_of_cells, top_k_of_many
from recsys.schema import RECOMMENDATIONS

BLOCK = 32
DENSE_ITEMS = 4096  # item vectors widened at once, so that they stay near the processor


class RecommenderConfig(BaseModel):
    """Hyperparameters, each with type, bound, default and meaning; nothing else is accepted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    repeats: Repeats = Field("binary", description="value of a repeated pair: binary, sum, log or last")


COSTS = {  # what a fit takes, the cheapest first
    "counting": "a pass over the interactions or the items",
    "sparse": "products of sparse matrices",
    "factors": "a few dozen passes for factors or a spectrum",
    "dense": "a matrix of items × items and its inverse",
    "gradient": "epochs of gradient descent with torch",
}
NEEDS = {
    "interactions": "who did what",
    "order": "interactions in order of time",
    "labels": "categories or tags of the items",
    "attributes": "brands, prices or other attributes of the items",
    "texts": "texts or titles of the items",
    "vectors": "vectors of the items that you bring",
}


class NotApplicableError(ContractError):
    """The data lacks what a recommender needs; its row is null, with this as the reason."""


class Recommender(ABC):
    """Scores queries.

    Subclasses give `config_class`, `cost`, `state`, `_fit` and `_score`, or instead of the last
    `products` and `_users`, or `linear` and perhaps `_past`; nothing else is virtual but `needs`, `influence`
    and `_update`. Arrays of the state are replaced, never changed in place.
    """

    config_class: ClassVar[type[RecommenderConfig]]
    state: ClassVar[tuple[str, ...]]
    cost: ClassVar[str]  # of COSTS
    needs: ClassVar[str] = "interactions"  # of NEEDS
    holds_users: ClassVar[bool] = False
    reads_history: ClassVar[bool] = True  # False: the list is the same whatever the user did
    reads_text: ClassVar[bool] = False  # True: the query's own words move the list
    untuned: ClassVar[str] = ""  # why nothing of the configuration is searched, where nothing is `Tuned`
    products: ClassVar[str] = ""  # the state (items, d) whose products with `_users` are the scores

    linear: ClassVar[str] = ""  # the state (items, items), dense or sparse, by which `_past` gives the scores

    config: RecommenderConfig
    items: Vocabulary

    @final
    def __init__(self, config: RecommenderConfig | None = None) -> None:
        self.config = config if config is not None else self.config_class()

    @abstractmethod
    def _fit(self, train: Dataset) -> None:
        """Set every attribute named in `state` (arrays, CSR matrices, or dictionaries of arrays by name)."""

    def _score(self, queries: Queries, items: np.ndarray | None) -> np.ndarray:
        """Return (queries, items) float32, higher is better; NaN where it cannot say."""
        if self.linear:
            return linear_scores(self._past(queries), getattr(self, self.linear), items)
        table: np.ndarray = getattr(self, self.products)
        return dense_scores(self._users(queries), table if items is None else table[items])

    def _users(self, queries: Queries) -> np.ndarray:
        """Return the vectors of queries, (n, d); NaN rows where it cannot say."""
        raise TypeError(f"{type(self).__name__} has neither _score nor _users")

    def _past(self, queries: Queries) -> csr_matrix:
        """Return what each item of a history counts, (n, items)."""
        return queries.matrix(self.config.repeats)

    def influence(self, query: Queries, items: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Say how much each past item adds to the scores of `items`, for one query.

        Returns the distinct history rows (h,) and the parts (h, items), or None where the method has
        no such decomposition.
        """
        if self.linear:
            return linear_influence(self._past(query), getattr(self, self.linear), items)
        return None

    @final
    def fit(self, train: Dataset) -> Self:
        """Learn from `train`; the item vocabulary is kept, the users are not."""
        _refuse_nothing(train)
        self._fit(train)
        self.items = train.items
        return self

    def _update(self, train: Dataset, rows: np.ndarray) -> None:
        """Set the state anew, from the old; `rows` (items,) are the items' old rows, -1 for new ones.

        Here it is the fit, which is exact. Whoever overrides it leaves the same items unlearned (NaN) as
        a fit on `train` would, and changes nothing before it is done.
        """
        self._fit(train)

    @final
    @classmethod
    def updates_exactly(cls) -> bool:
        """Whether an update gives what a fit gives, in a fit's time."""
        return cls._update is Recommender._update

    @final
    def update(self, train: Dataset) -> Self:
        """Learn from `train` on top of what was learned before, in a fraction of a long fit's time.

        `train` is the whole log as of now, not the news alone: the model holds no users, so nothing else
        would tell it of their pasts. Repeats therefore count as a fit counts them, and an event given in
        an earlier update counts once. Items are matched by id, whatever their row. Those the old
        vocabulary lacks, or that were not learned, begin among the items done by the same people; those
        that are gone are forgotten; those without interactions any more are NaN as after a fit. Where no
        old item is left this is a fit. The same old model, data and seed give the same bits.

        Raises ContractError where there was no fit and where there are no interactions; the old model
        then stays as it was.
        """
        if not hasattr(self, "items"):
            raise ContractError("there is nothing to go on from: fit or load a model before an update")
        _refuse_nothing(train)
        rows = self.items.rows(train.items.ids)
        if (rows >= 0).any():
            self._update(train, rows)
        else:
            self._fit(train)
        self.items = train.items
        return self

    @final
    def score(self, queries: Queries, items: np.ndarray | None = None) -> np.ndarray:
        """Return (queries, items) float32 over the whole catalogue, or over the rows `items`."""
        self._check_width(queries.items)
        width = len(self.items) if items is None else len(items)
        scores = np.empty((len(queries), width), np.float32)
        for place, block in queries.blocks(BLOCK):
            scores[place] = self._score(block, items)
        return scores

    def _check_width(self, items: int) -> None:
        if items != len(self.items):
            raise ContractError(f"queries over {items} items meet a model of {len(self.items)}")

    @final
    def rank(
        self,
        queries: Queries,
        k: int,
        catalogue: Catalogue,
        exclude_seen: bool = True,
        excluded: np.ndarray | None = None,
    ) -> Ranked:
        """Return the k best available items of each query as rows, block by block.

        `excluded` (rows) are left out for every query. Memory: BLOCK × items × 24 bytes, or what
        `products.best` says.
        """
        self._check_width(queries.items)
        self._check_width(len(catalogue.items))
        if k < 1:
            raise ContractError(f"k is the length of a list, so at least 1, not {k}")
        if not self.products:
            few, parts = len(queries) <= BLOCK, []
            for _, block in queries.blocks(BLOCK):
                barred = catalogue.barred(block, exclude_seen, excluded)
                if few:
                    parts.append(top_k(self._score(block, None), k, barred.allowed))
                elif self.linear and issparse(weights := getattr(self, self.linear)):
                    parts.append(top_k_of_cells((self._past(block) @ weights).tocsr(), k, barred))
                else:
                    parts.append(top_k_of_many(self._score(block, None), k, barred))
            return Ranked.joined(parts, k)
        table = self._table()
        asked = (
            (self._user_vectors(block), catalogue.barred(block, exclude_seen, excluded))
            for _, block in queries.blocks(table.block(len(queries)))
        )
        return Ranked.joined(list(table.best(asked, k)), k)

    def _user_vectors(self, queries: Queries) -> np.ndarray:
        parts = [self._users(block) for _, block in queries.blocks(BLOCK)]
        return np.concatenate(parts).astype(np.float64, copy=False)

    def _table(self) -> Table:
        """Return the item vectors with what is made of them once."""
        items = getattr(self, self.products)
        if (made := self.__dict__.get("_made")) is None or made.items is not items:
            made = self.__dict__["_made"] = Table(items)
        found: Table = made
        return found

    @final
    def recommend(
        self, queries: Queries, k: int, catalogue: Catalogue, source: str, exclude_seen: bool = True
    ) -> pl.DataFrame:
        """Return RECOMMENDATIONS: the k best available items of each query, by id."""
        return as_frame(self.rank(queries, k, catalogue, exclude_seen), queries.ids, self.items, source)

    @final
    def save(self, folder: Path, name: str) -> None:
        """Write config, item ids and state into a new folder; `name` is the registry's."""
        folder.mkdir(parents=True)
        tensors: dict[str, np.ndarray] = {}
        shapes: dict[str, list[int]] = {}
        named: list[str] = []
        for key in self.state:
            value = getattr(self, key)
            if issparse(value):
                csr = value.tocsr()
                shapes[key] = list(csr.shape)
                for part in ("data", "indices", "indptr"):
                    tensors[f"{key}.{part}"] = np.ascontiguousarray(getattr(csr, part))
            elif isinstance(value, dict):
                named.append(key)
                tensors |= {f"{key}.{part}": np.ascontiguousarray(array) for part, array in value.items()}
            else:
                tensors[key] = np.ascontiguousarray(value)
        save_file(tensors, folder / "state.safetensors")
        self.items.ids.to_frame().write_parquet(folder / "items.parquet")
        about = {"recommender": name, "config": self.config.model_dump(), "sparse": shapes}
        if named:
            about["named"] = named
        (folder / "recommender.json").write_text(json.dumps(about, indent=2) + "\n")

    @final
    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote; use `recsys.models.load` where the class is not known."""
        about = json.loads((folder / "recommender.json").read_text())
        self = cls(cls.config_class(**about["config"]))
        self.items = Vocabulary(pl.read_parquet(folder / "items.parquet")["id"])
        tensors = load_file(folder / "state.safetensors")
        for key in cls.state:
            if key in about["sparse"]:
                parts = tuple(tensors[f"{key}.{part}"] for part in ("data", "indices", "indptr"))
                setattr(self, key, csr_matrix(parts, shape=tuple(about["sparse"][key])))
            elif key in about.get("named", ()):
                start = f"{key}."
                setattr(
                    self, key, {n.removeprefix(start): v for n, v in tensors.items() if n.startswith(start)}
                )
            else:
                setattr(self, key, tensors[key])
        return self


def _refuse_nothing(train: Dataset) -> None:
    if not len(train.histories.items):
        raise ContractError("there are no interactions to learn from: check the events and their weights")


def as_frame(ranked: Ranked, ids: Sequence[str], items: Vocabulary, source: str) -> pl.DataFrame:
    """Return ranked rows as RECOMMENDATIONS."""
    lengths = ranked.lengths
    listed = ranked.rows >= 0
    users = pl.Series("user_id", list(ids), dtype=pl.String)
    return RECOMMENDATIONS.conform(
        pl.DataFrame(
            {
                "user_id": users.gather(np.repeat(np.arange(len(lengths)), lengths)),
                "item_id": items.take(ranked.rows[listed]),
                "rank": np.broadcast_to(np.arange(1, ranked.rows.shape[1] + 1), ranked.rows.shape)[listed],
                "score": ranked.scores[listed],
                "source": pl.repeat(source, int(lengths.sum()), dtype=pl.String, eager=True),
            }
        )
    )


def linear_scores(x: csr_matrix, weights: np.ndarray | csr_matrix, items: np.ndarray | None) -> np.ndarray:
    """Score = x W for histories x (n, items) and item-item weights W, float32.

    A row without history is NaN, and so is, under sparse weights, every item no weight reaches:
    nothing is known of it for this query, and 0 would say it is bad. Under dense weights, where NaN
    on the diagonal marks an item that was not learned, a history of such items alone is as good as none.
    """
    chosen, past = weights, x
    if items is not None:  # read only the rows the histories touch: not the whole matrix for a re-rank
        touched = np.unique(x.indices)
        chosen, past = weights[np.ix_(touched, items)], x[:, touched]
    scores: np.ndarray
    if issparse(chosen):
        reached = (past @ chosen).tocsr()
        said = reached.data != 0
        row = np.repeat(np.arange(len(x.indptr) - 1), np.diff(reached.indptr))
        scores = np.full(reached.shape, np.nan, np.float32)
        scores[row[said], reached.indices[said]] = reached.data[said]
    else:
        scores = np.asarray(past @ chosen, np.float32)
        learned = ~np.isnan(weights.diagonal())
        scores[x @ learned.astype(np.float32) == 0] = np.nan
    scores[np.diff(x.indptr) == 0] = np.nan
    return scores


def dense_scores(users: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Score = users (n, d) times items (m, d) transposed, float32, summed in float64.

    A float32 product depends on the row a query has in its block (BLAS takes other paths at the
    edges), and where terms cancel that noise is far above what ranking rounds away. Summed in float64
    and rounded once, a query gets the same score alone and in a batch.
    """
    scores = np.empty((len(users), len(items)), np.float32)
    wide = users.astype(np.float64)
    for start in range(0, len(items), DENSE_ITEMS):
        stop = start + DENSE_ITEMS
        scores[:, start:stop] = wide @ items[start:stop].astype(np.float64).T
    return scores


def linear_influence(
    x: csr_matrix, weights: np.ndarray | csr_matrix, items: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return x's history rows and what each adds to the score of `items`; the parts sum to it."""
    block = weights[np.ix_(x.indices, items)]
    dense: np.ndarray = block.toarray() if issparse(block) else block
    parts: np.ndarray = x.data[:, None] * dense
    return x.indices, parts
