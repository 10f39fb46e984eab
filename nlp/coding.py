"""Pairs of texts as numbers: which text stands where, and what is no negative of what."""

from dataclasses import dataclass

import numpy as np
import polars as pl


@dataclass(frozen=True)
class Coded:
    """PAIRS by code: place i pairs text `left[i]` with text `right[i]`."""

    texts: list[str]
    left: np.ndarray  # (pairs,) int64 codes of texts
    right: np.ndarray
    scores: np.ndarray | None  # (pairs,) float32
    owners: np.ndarray  # (pairs,) int64 codes of users; -1: nobody is known
    asked: np.ndarray  # sorted left * texts + right of all pairs
    chosen: np.ndarray  # sorted owner * texts + text of all that users chose
    hard: np.ndarray  # codes of texts, those of one owner side by side
    ends: np.ndarray  # (owners + 1,) where they end in `hard`

    def false_negatives(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Return (rows, columns) bool: where a text is no negative of a pair's left.

        It is the same text as either side's, belongs to the same left text in another pair, or was chosen by
        the pair's user as well.
        """
        left, right, owner = (part[rows][:, None] for part in (self.left, self.right, self.owners))
        found: np.ndarray = (left == columns) | (right == columns)
        found |= _among(left * len(self.texts) + columns, self.asked)
        known: np.ndarray = (owner >= 0) & _among(owner * len(self.texts) + columns, self.chosen)
        found |= known
        return found

    def hard_negatives(self, rows: np.ndarray, each: int, random: np.random.Generator) -> np.ndarray:
        """Return `each` texts drawn for each row from those of its user; none for a user without."""
        owners = np.repeat(self.owners[rows], each)
        owners = owners[owners >= 0]
        starts, ends = self.ends[owners], self.ends[owners + 1]
        drawn = starts + (random.random(len(owners)) * (ends - starts)).astype(np.int64)
        negatives: np.ndarray = self.hard[drawn[ends > starts]]
        return negatives


def coded(pairs: pl.DataFrame, chosen: pl.DataFrame | None = None, hard: pl.DataFrame | None = None) -> Coded:
    """Return PAIRS as numbers; `chosen` and `hard` (user_id, text) are what users chose and did not."""
    empty = pl.DataFrame(schema={"user_id": pl.String, "text": pl.String})
    belong = pairs.select("user_id", text="right").drop_nulls()
    chosen = pl.concat([belong, empty if chosen is None else chosen.select("user_id", "text")]).unique()
    users = pl.DataFrame({"user_id": pairs["user_id"].drop_nulls().unique().sort()}).with_row_index("owner")
    hard = empty if hard is None else hard.select("user_id", "text").unique(maintain_order=True)
    hard = hard.join(chosen, on=["user_id", "text"], how="anti", maintain_order="left")
    hard = hard.join(users, on="user_id", maintain_order="left")
    names = pl.concat([pairs["left"], pairs["right"], hard["text"]]).unique(maintain_order=True)
    texts = pl.DataFrame({"text": names}).with_row_index("code")

    def codes(column: pl.Series) -> np.ndarray:
        found = pl.DataFrame({"text": column}).join(texts, on="text", how="left", maintain_order="left")
        return found["code"].to_numpy().astype(np.int64)

    left, right = codes(pairs["left"]), codes(pairs["right"])
    owned = pairs.join(users, on="user_id", how="left", maintain_order="left")
    met = chosen.join(users, on="user_id").join(texts, on="text")
    hard = hard.sort("owner", maintain_order=True)
    counts = np.bincount(hard["owner"].to_numpy(), minlength=len(users))
    n = len(texts)
    return Coded(
        names.to_list(),
        left,
        right,
        None if pairs["score"].null_count() else pairs["score"].to_numpy().astype(np.float32),
        owned["owner"].cast(pl.Int64).fill_null(-1).to_numpy(),
        np.sort(left * n + right),
        np.sort(met["owner"].to_numpy().astype(np.int64) * n + met["code"].to_numpy()),
        codes(hard["text"]),
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
    )


def _among(values: np.ndarray, ordered: np.ndarray) -> np.ndarray:
    if not len(ordered):
        return np.zeros(values.shape, bool)
    found: np.ndarray = ordered[np.searchsorted(ordered, values).clip(max=len(ordered) - 1)] == values
    return found
