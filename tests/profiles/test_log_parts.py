"""The hash of a log: the same however its rows are cut, another for every other row or order."""

from hashlib import sha256

import numpy as np
import polars as pl
import pytest

from profiles.log_parts import BLOCK, SEED, Chain

ROWS = pl.DataFrame({"id": [f"e{n}" for n in range(3 * BLOCK + 7)]}).with_columns(
    other=pl.lit(None, pl.Float64)
)


def chained(rows: pl.DataFrame, cuts: list[int]) -> str:
    chain = Chain()
    for first, last in zip([0, *cuts], [*cuts, len(rows)], strict=True):
        chain = chain.after(rows[first:last])
    return chain.name


def test_it_is_a_chain_of_digests_over_blocks() -> None:
    hashes = ROWS.hash_rows(SEED).to_numpy().astype("<u8")
    digest = b""
    for number in range(3):
        digest = sha256(digest + hashes[number * BLOCK : (number + 1) * BLOCK].tobytes()).digest()
    assert chained(ROWS, []) == sha256(digest + hashes[3 * BLOCK :].tobytes()).hexdigest()


@pytest.mark.parametrize("seed", range(5))
def test_cuts_do_not_matter(seed: int) -> None:
    cuts = np.sort(np.random.default_rng(seed).integers(0, len(ROWS), 9)).tolist()
    assert chained(ROWS, cuts) == chained(ROWS, [])


@pytest.mark.parametrize("length", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK])
def test_every_row_and_its_place_matter(length: int) -> None:
    names = {chained(ROWS[:length], []), chained(ROWS[: length + 1], [])}
    if length > 1:
        names |= {chained(ROWS[:length].reverse(), []), chained(ROWS[1 : length + 1], [])}
    assert len(names) == (4 if length > 1 else 2)
