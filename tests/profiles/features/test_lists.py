"""Lists of names held as codes become lists of names again, whatever was done with the rows meanwhile."""

from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from profiles.features import VALUE_SHARES, Lists

NAMES = pl.Series(["a", "b", "c"])
OFFSETS, CODES = np.array([0, 2, 2, 5]), pl.Series([2, 0, 1, 1, 0], dtype=pl.Int32)


@pytest.mark.parametrize("shares", [None, np.array([0.5, 0.25, 0.125, 1.0, 0.0])])
def test_codes_become_names(shares: np.ndarray | None) -> None:
    coded = Lists(OFFSETS, CODES, shares, NAMES)
    rows = [*pairwise(OFFSETS)]
    whole = ["c", "a", "b", "b", "a"]
    expected: list[list[object]] = [
        [whole[n] if shares is None else {"value": whole[n], "share": shares[n]} for n in range(*row)]
        for row in rows
    ]
    frame = pl.DataFrame({"lists": coded.series()})
    moved = pl.concat([frame, frame.clear(n=1)]).with_row_index().sort("index", descending=True)["lists"]
    named = Lists.of(moved, NAMES).named.series()
    assert named.dtype == (pl.List(pl.String) if shares is None else VALUE_SHARES)
    assert named.to_list() == [[], *reversed(expected)]
    assert coded.named.series().to_list() == expected
    assert (
        Lists(OFFSETS[:2], CODES[:2], shares[:2] if shares is not None else None, NAMES).only() == expected[0]
    )
