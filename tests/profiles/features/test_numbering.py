"""Strings numbered in the order they are met, however many batches and threads bring them."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from profiles.features.numbering import Numbering


@given(st.lists(st.lists(st.none() | st.text(max_size=2), max_size=30), max_size=4))
def test_it_numbers_as_a_dictionary_does(batches: list[list[str | None]]) -> None:
    numbering, known = Numbering(), dict[str, int]()
    for batch in batches:
        expected = [-1 if name is None else known.setdefault(name, len(known)) for name in batch]
        assert numbering(pl.Series(batch, dtype=pl.String)).tolist() == expected
    assert numbering.names().to_list() == [*known]


def test_the_table_grows_under_threads() -> None:
    numbering = Numbering()
    ids = pl.Series(np.arange(50_000)).cast(pl.String)
    parts = [ids.sample(20_000, seed=seed) for seed in range(12)]
    with ThreadPoolExecutor(4) as pool:
        codes = list(pool.map(numbering, parts))
    names = numbering.names()
    assert names.is_unique().all()
    for part, found in zip(parts, codes, strict=True):
        assert names.gather(found).equals(part)
