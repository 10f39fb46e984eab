"""Content by labels: items whose categories and tags are those of what was chosen (TF-IDF; Salton 1988)."""

from functools import cached_property

import numpy as np
import polars as pl
from pydantic import Field
from scipy.sparse import csr_matrix, diags

from recsys.dataset import Catalogue, Dataset, Queries
from recsys.recommender import NotApplicableError, Recommender, RecommenderConfig, linear_scores


class ContentTagsConfig(RecommenderConfig):
    tags_share: float = Field(
        0.5, ge=0, le=1, description="weight of an item's tags against its categories, where it has both"
    )


class ContentTags(Recommender):
    """score(u, i) = cos(q_u, v_i), q_u = sum over j in u's history of x_uj v_j, v_i the labels' unit TF-IDF.

    A label weighs share * idf, idf = ln((1 + items) / (1 + items with it)) + 1; the same word as category
    and as tag is two labels. New items rank from their labels alone; nothing is learned from who else
    liked them. Memory: labels of all items × 16 bytes. Cannot say of items without labels, or
    without one in common with the history (NaN).
    """

    config_class = ContentTagsConfig
    cost = "counting"
    needs = "labels"
    config: ContentTagsConfig
    state = ("vectors",)
    vectors: csr_matrix  # (items, labels) float32, rows of norm 1 or 0

    def _fit(self, train: Dataset) -> None:
        labels = _labels(train.catalogue)
        if not len(labels):
            raise NotApplicableError("no item has a category or tag; map `categories` or `tags` of the items")
        names = labels["label"].unique().sort()
        column = labels["label"].cast(pl.Enum(names)).to_physical().to_numpy()
        share = np.where(labels["kind"] == "tag", self.config.tags_share, 1 - self.config.tags_share)
        shape = (len(train.items), len(names))
        cells = csr_matrix((share, (labels["row"].to_numpy(), column)), shape)
        found = np.bincount(column, minlength=len(names))
        weighted = cells @ diags(np.log((1 + shape[0]) / (1 + found)) + 1)
        self.vectors = _unit(weighted.tocsr()).astype(np.float32)
        self.__dict__.pop("_by_label", None)

    @cached_property
    def _by_label(self) -> csr_matrix:
        return self.vectors.T.tocsr()

    def _score(self, queries: Queries, items: np.ndarray | None) -> np.ndarray:
        liked = _unit((queries.matrix(self.config.repeats) @ self.vectors).tocsr())
        return linear_scores(liked, self._by_label, items)


def _labels(catalogue: Catalogue) -> pl.DataFrame:
    """Return (row, kind, label) of every distinct label of the items; kinds do not share labels."""
    frame = catalogue.attributes.with_row_index("row")
    kinds = [
        frame.select("row", kind=pl.lit(kind), label=pl.col(column).list.unique()).explode("label")
        for kind, column in (("category", "categories"), ("tag", "tags"))
    ]
    labels = pl.concat(kinds).drop_nulls("label")
    return labels.with_columns(label=pl.format("{}:{}", "kind", "label"))


def _unit(matrix: csr_matrix) -> csr_matrix:
    """Scale rows to norm 1; a zero row stays one. Cells of 0 go."""
    norms = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    unit = (diags(np.divide(1, norms, out=np.zeros_like(norms), where=norms > 0)) @ matrix).tocsr()
    unit.eliminate_zeros()
    return unit
