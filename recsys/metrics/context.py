"""What a metric may know beside lists and truth: all of it from train."""

from dataclasses import dataclass
from functools import cached_property

import polars as pl

from profiles.schema import ContractError


@dataclass(frozen=True)
class Context:
    """What train knows: the catalogue, how many distinct users each item had, how many users there were.

    Of what is not given, the metrics that need it say so.
    """

    items: pl.Series
    popularity: pl.DataFrame  # item_id, count; an item that is not named counts 0
    users: int
    categories: pl.DataFrame | None = None  # item_id, categories: List(String), null where unknown
    histories: pl.DataFrame | None = None  # user_id, item_id: distinct pairs, of the users asked about
    groups: pl.DataFrame | None = None  # item_id, group: whose exposure is compared; none: head and tail

    @cached_property
    def catalogue_size(self) -> int:
        """How many different items there are."""
        return self.items.n_unique()

    def labelled(self) -> pl.DataFrame:
        """Return item_id, category: one row a category of an item; ContractError without categories."""
        if self.categories is None:
            raise ContractError("this metric compares items by category; give Context categories")
        return (
            self.categories.select("item_id", pl.col("categories").alias("category"))
            .explode("category", empty_as_null=True)
            .drop_nulls("category")
            .unique(maintain_order=True)
        )

    def past(self) -> pl.DataFrame:
        """Return user_id, item_id of what was done; ContractError where that is not known."""
        if self.histories is None:
            raise ContractError("this metric compares lists with what users did; give Context histories")
        return self.histories.select("user_id", "item_id").unique(maintain_order=True)

    def tail(self) -> pl.DataFrame:
        """Return item_id, tail: whether the item is outside the fewest that hold 80 % of train's pairs.

        The short head of Abdollahpouri et al. (RecSys 2017). Of equally popular items at the edge the
        first by id is in the head; what train does not know is tail.
        """
        ranked = (
            self.items.unique().rename("item_id").to_frame()
            .join(self.popularity, on="item_id", how="full", coalesce=True)
            .with_columns(pl.col("count").fill_null(0))
            .sort("count", "item_id", descending=[True, False])
        )  # fmt: skip
        before = ranked["count"].cum_sum() - ranked["count"]
        head = (ranked["count"] > 0) & (before < 0.8 * float(ranked["count"].sum()))
        return ranked.select("item_id", tail=~head)
