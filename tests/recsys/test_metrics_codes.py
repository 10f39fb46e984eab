"""Ids as numbers: as Polars codes them, whichever way they go."""

import numpy as np
import polars as pl
import pytest

from recsys.metrics import codes
from recsys.metrics.codes import INLINE, coded

SHORT = ["a", "", "a\0", "b", "a", "é" * 6, "x" * INLINE, "x" * (INLINE - 1), "b", "aaaaa", "aaaab"]


def by_polars(parts: list[pl.Series]) -> list[list[int]]:
    """What one cast of each part gives, in a category of its own."""
    kind = pl.Categorical(pl.Categories.random())
    held = [part.cast(kind) for part in parts]
    return [part.to_physical().to_list() for part in held]


def check(parts: list[pl.Series]) -> None:
    kind = pl.Categorical(pl.Categories.random())
    held = pl.Series([], dtype=kind)
    assert [coded(part, kind).tolist() for part in parts] == by_polars(parts)
    assert held.is_empty()


@pytest.mark.parametrize("long", [[], ["x" * (INLINE + 1), "x" * INLINE + "y"]])
def test_codes_are_those_of_polars(long):
    ids = pl.Series([*SHORT, *long])
    check([ids[3:9], ids, pl.concat([ids[8:], ids[:2], pl.Series(["new"])], rechunk=False), ids[:0]])


def test_many_ids_in_many_chunks():
    numbers = np.random.default_rng(0).integers(0, 3000, 20_000)
    ids = pl.Series([f"i{n:06}" for n in numbers])
    check([ids, pl.concat([ids[15_000:], ids[:40]], rechunk=False)])


def test_ids_of_one_hash_are_told_apart(monkeypatch):
    monkeypatch.setattr(codes, "_mixed", lambda words: np.full(len(words), 7, np.uint64))
    check([pl.Series(SHORT)])
