"""Labels of items: the values of their attributes as columns of a sparse matrix, weighed by TF-IDF.

A list gives a label for each distinct value, a number its band of equally many items, anything else its
value; the same value of two attributes is two labels.
"""

from collections.abc import Sequence
from hashlib import sha256
from typing import Any, ClassVar

import numpy as np
import polars as pl
from scipy.sparse import csr_matrix, diags

from profiles.schema import ContractError
from recsys.dataset import Catalogue, Queries
from recsys.decay import decayed
from recsys.recommender import linear_scores

NO_LABELS = ("item_id", "title", "text")  # an item's own


def able(catalogue: Catalogue) -> list[str]:
    """Return the attributes whose values may be labels: not ids, titles, texts or moments."""
    kinds = catalogue.attributes.schema
    return [n for n, kind in kinds.items() if n not in NO_LABELS and (not kind.is_nested() or _listed(kind))
            and not kind.is_temporal()]  # fmt: skip


def labels(catalogue: Catalogue, attributes: Sequence[str], bands: int = 5) -> pl.DataFrame:
    """Return (row, kind, label) of every distinct label of the items; kinds do not share labels.

    Raises ContractError for an attribute that is none of `able`.
    """
    frame, known = catalogue.attributes.with_row_index("row"), able(catalogue)
    parts = [pl.DataFrame(schema={"row": pl.UInt32, "kind": pl.String, "label": pl.String})]
    for name in attributes:
        if name not in known:
            raise ContractError(f"attributes: {name!r} is none of the items' {', '.join(known)}")
        values = frame[name]
        if _listed(values.dtype):
            found = frame.select("row", label=pl.col(name).list.unique()).explode("label")
        else:
            found = pl.DataFrame({"row": frame["row"], "label": _banded(values, bands)})
        parts.append(found.select("row", kind=pl.lit(name), label=pl.col("label").cast(pl.String)))
    together = pl.concat(parts).drop_nulls("label")
    return together.with_columns(label=pl.format("{}:{}", "kind", "label"))


def incidence(found: pl.DataFrame, items: int, share: np.ndarray | None = None) -> csr_matrix:
    """Return (items, labels) float64, `share` (or 1) where an item has a label; labels sorted."""
    names = found["label"].unique().sort()
    column = found["label"].cast(pl.Enum(names)).to_physical().to_numpy()
    cells = np.ones(len(found)) if share is None else share
    return csr_matrix((cells, (found["row"].to_numpy(), column)), (items, len(names)))


def keys(found: pl.DataFrame) -> np.ndarray:
    """Return a number for each label, in the order of `incidence`'s columns, (labels,) uint64.

    Another catalogue's label of the same name has the same number, whatever its column.
    """
    digests = [sha256(name.encode()).digest()[:8] for name in found["label"].unique().sort()]
    return np.frombuffer(b"".join(digests), "<u8")


def tf_idf(cells: csr_matrix) -> csr_matrix:
    """Weigh each label by idf = ln((1 + items) / (1 + items with it)) + 1, float32 rows of norm 1 or 0."""
    found = cells.getnnz(axis=0)
    return _unit((cells @ diags(np.log((1 + cells.shape[0]) / (1 + found)) + 1)).tocsr()).astype(np.float32)


def cosines(x: csr_matrix, vectors: csr_matrix, by_label: csr_matrix, items: np.ndarray | None) -> np.ndarray:
    """Return the cosines of histories' sums of label vectors and items; NaN without a label in common.

    `by_label` is `vectors` (items, labels) transposed, as CSR.
    """
    return linear_scores(_unit((x @ vectors).tocsr()), by_label, items)


def cosine_parts(x: csr_matrix, vectors: csr_matrix, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return one history's rows and what each adds to the cosines of `items`; the parts sum to them."""
    own = diags(x.data.astype(np.float64)) @ vectors[x.indices]
    norm = np.sqrt(np.square(np.asarray(own.sum(axis=0))).sum())
    parts: np.ndarray = (own @ vectors[items].T).toarray()
    return x.indices, parts / (norm if norm > 0 else np.nan)


class Labelled:
    """What a recommender by labels shares; it says which in its `_fit`.

    score(u, i) = cos(q_u, v_i), q_u = sum over j in u's history of x_uj 0.5^(age_uj / half-life) v_j, v_i
    the unit TF-IDF of i's labels. Items without a label in common with the history are NaN.
    """

    config: Any  # a RecommenderConfig and FadingConfig in one
    cost: ClassVar[str] = "counting"
    state: ClassVar[tuple[str, ...]] = ("vectors", "by_label")
    vectors: csr_matrix  # (items, labels) float32, rows of norm 1 or 0
    by_label: csr_matrix  # the same by labels, so that no query has to turn it over

    def _describe(self, cells: csr_matrix) -> None:
        """Set the state: `cells` (items, labels) is the share of a label in an item, before TF-IDF."""
        self.vectors = tf_idf(cells)
        self.by_label = self.vectors.T.tocsr()

    def _score(self, queries: Queries, items: np.ndarray | None) -> np.ndarray:
        return cosines(self._past(queries), self.vectors, self.by_label, items)

    def influence(self, query: Queries, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what each past item's labels add to the cosine; the parts sum to the score."""
        return cosine_parts(self._past(query), self.vectors, items)

    def _past(self, queries: Queries) -> csr_matrix:
        return decayed(queries, self.config.repeats, self.config.half_life_days)


def _listed(kind: pl.DataType) -> bool:
    return isinstance(kind, pl.List) and not kind.inner.is_nested()


def _banded(values: pl.Series, bands: int) -> pl.Series:
    """Return numbers of more than `bands` values as the band they fall in, all else as it is.

    A number that is not finite says nothing.
    """
    if not values.dtype.is_numeric():
        return values
    numbers = values.cast(pl.Float64)
    finite = numbers.is_finite().fill_null(False)
    if numbers.filter(finite).n_unique() <= bands:
        return values.set(~finite, None)
    edges = np.unique(np.quantile(numbers.filter(finite).to_numpy(), np.arange(1, bands) / bands))
    band = np.searchsorted(edges, numbers.fill_null(0.0).to_numpy(), side="right")
    return pl.Series(band).set(~finite, None)


def _unit(matrix: csr_matrix) -> csr_matrix:
    """Scale rows to norm 1; a zero row stays one. Cells of 0 go.

    By arrays: a product with a diagonal costs a live request more than all that follows it.
    """
    owner = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    norms = np.sqrt(np.bincount(owner, np.square(matrix.data, dtype=np.float64), matrix.shape[0]))
    scale = np.divide(1, norms, out=np.zeros_like(norms), where=norms > 0)
    unit = csr_matrix((matrix.data * scale[owner], matrix.indices, matrix.indptr), matrix.shape, copy=True)
    unit.eliminate_zeros()
    return unit
