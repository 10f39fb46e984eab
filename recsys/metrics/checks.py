"""What cannot be measured: refused with what is wrong and what would be right."""

from collections.abc import Sequence

import polars as pl

from profiles.schema import ContractError


def refuse_depths(ks: Sequence[int]) -> None:
    """Refuse list lengths below 1, and none at all."""
    if not ks:
        raise ContractError("no list length is given; name at least one k, as 10")
    for k in ks:
        if k < 1:
            raise ContractError(f"k is a list length and must be at least 1, not {k}")


def refuse_truth(truth: pl.DataFrame) -> None:
    """Refuse a truth that is empty, lacks an id, repeats a pair or weighs one as nothing."""
    if truth.is_empty():
        raise ContractError("truth is empty: there is no user to measure; cut earlier, or give more events")
    for name in ("user_id", "item_id"):
        if truth[name].null_count():
            raise ContractError(f"truth: a {name} is null; leave out rows of nobody and nothing")
    if "weight" in truth.columns and (row := _first(truth.filter(~(pl.col("weight") > 0)))):
        raise ContractError(
            f"truth: user {row['user_id']!r}, item {row['item_id']!r} weighs {row['weight']}; "
            "what is true weighs more than 0: leave out the rest"
        )
    if row := _repeated(truth, "user_id", "item_id"):
        raise ContractError(f"truth: user {row['user_id']!r} holds item {row['item_id']!r} more than once")


def refuse_lists(lists: pl.DataFrame) -> None:
    """Refuse lists with a null or a NaN."""
    for name in ("source", "user_id", "item_id", "rank"):
        if lists[name].null_count():
            raise ContractError(f"recommendations: a {name} is null")
    if lists["score"].is_nan().any() and (row := _first(lists.filter(pl.col("score").is_nan()))):
        raise ContractError(f"{_whose(row)}: a score is NaN; leave out what has no score")


def refuse_strangers(lists: pl.DataFrame, truth: pl.DataFrame) -> None:
    """Say that no list is of a user with truth."""
    listed = repr(lists["user_id"][0]) if len(lists) else "nobody"
    raise ContractError(
        "recommendations and truth have no user in common: "
        f"lists are for {listed}, …; truth is for {truth['user_id'][0]!r}, …"
    )


def refuse_places(lists: pl.DataFrame) -> None:
    """Refuse ranks other than 1..n, and an item twice in a list."""
    rank = pl.col("rank")
    told = lists.group_by("source", "user_id").agg(
        rank.min().alias("first"), rank.max().alias("last"), rank.len().alias("length")
    )
    if row := _first(
        told.filter((pl.col("first") != 1) | (pl.col("last") != pl.col("length"))).sort(pl.all())
    ):
        found = f"{row['length']} ranks from {row['first']} to {row['last']}"
        raise ContractError(f"{_whose(row)}: ranks must be 1..n without gaps; found {found}")
    if row := _repeated(lists, "source", "user_id", "rank"):
        raise ContractError(f"{_whose(row)}: rank {row['rank']} is given more than once")
    if row := _repeated(lists, "source", "user_id", "item_id"):
        raise ContractError(f"{_whose(row)}: item {row['item_id']!r} is recommended more than once")


def _repeated(frame: pl.DataFrame, *key: str) -> dict[str, object] | None:
    """Return a row whose key stands in another row too. Equal hashes only raise the suspicion."""
    if frame.select(key).hash_rows().n_unique() == len(frame):
        return None
    return _first(frame.filter(pl.struct(key).is_duplicated()))


def _first(frame: pl.DataFrame) -> dict[str, object] | None:
    return frame.row(0, named=True) if len(frame) else None


def _whose(row: dict[str, object]) -> str:
    return f"source {row['source']!r}, user {row['user_id']!r}"
