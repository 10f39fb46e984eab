"""Exact top-k of products: all rough ways against float64 and a full sort."""

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from recsys import products, watch
from recsys.products import FEW, Table
from recsys.ranking import Barred, rounded

WAYS = ["whole", "float32", "bfloat16"]


@pytest.fixture(params=WAYS)
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many queries are given at once: that decides which way they go."""
    if request.param == "whole":
        monkeypatch.setattr(products, "LARGE", 0)
        return 1
    if request.param == "bfloat16":
        pytest.importorskip("torch")
        return FEW + 8
    return FEW


def slow(users: np.ndarray, items: np.ndarray, k: int, allowed: np.ndarray) -> list[list[tuple[int, float]]]:
    """Score everything in float64, round, and sort: best score first, then the lower row."""
    lists = []
    for user, may in zip(users, allowed, strict=True):
        scores = rounded((items.astype(np.float64) * user).sum(axis=1))
        usable = [
            (-score, row) for row, score in enumerate(scores.tolist()) if may[row] and np.isfinite(score)
        ]
        lists.append([(row, -score) for score, row in sorted(usable)[:k]])
    return lists


def check(users: np.ndarray, items: np.ndarray, k: int, barred: Barred, block: int) -> None:
    starts = range(0, len(users), block)
    parts = [(users[s : s + block], barred.part(s, min(s + block, len(users)))) for s in starts]
    found = list(Table(items).best(parts, k))
    rows, scores = (np.concatenate([getattr(f, name) for f in found]) for name in ("rows", "scores"))
    assert rows.dtype == np.int32
    assert scores.dtype == np.float32
    with np.errstate(over="ignore", invalid="ignore"):
        expected = slow(users, items, k, barred.allowed)
    for n, wanted in enumerate(expected):
        assert rows[n, : len(wanted)].tolist() == [row for row, _ in wanted], n
        assert scores[n, : len(wanted)].tolist() == [score for _, score in wanted], n
        assert (rows[n, len(wanted) :] == -1).all()
        assert np.isnan(scores[n, len(wanted) :]).all()


def drawn(items: int, factors: int, seed: int, users: int = 2 * FEW + 16) -> tuple[np.ndarray, np.ndarray]:
    """Return users and items as training leaves them: norms far apart, one direction stronger."""
    random = np.random.default_rng(seed)
    table = random.normal(size=(items, factors)) * random.lognormal(0, 1, (items, 1))
    table[:, 0] += 2
    return random.normal(size=(users, factors)), table.astype(np.float32)


def barring(users: int, items: int, seed: int) -> Barred:
    random = np.random.default_rng(seed)
    lengths = random.integers(0, items // 2 + 1, users)
    lengths[: users // 4] = 0
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    rows = random.integers(0, items, offsets[-1]).astype(np.int32)
    return Barred(random.random(items) < 0.1, offsets, rows)


@pytest.mark.parametrize(("items", "factors"), [(3000, 16), (2049, 65), (700, 128)])
@pytest.mark.parametrize("k", [1, 7, 20])
def test_lists_are_those_of_a_full_sort(items, factors, k, block):
    users, table = drawn(items, factors, k)
    table[::11] = np.nan
    users[5] = np.nan
    check(users, table, k, barring(len(users), items, k), block)


def test_near_ties_are_told_apart_and_ties_go_to_the_lower_row(block):
    """Vectors that differ by less than bfloat16 can say, and many that do not differ at all."""
    random = np.random.default_rng(0)
    users = random.normal(size=(FEW + 8, 24))
    table = np.repeat(random.normal(size=(1, 24)), 1000, axis=0) * (1 + 1e-4 * random.random((1000, 1)))
    table[500:] = table[:500]
    check(users, table.astype(np.float32), 20, barring(len(users), 1000, 3), block)


def test_where_terms_cancel_the_list_is_that_of_float64(block):
    random = np.random.default_rng(1)
    users, table = drawn(1500, 32, 2)
    users[:, 16:] = -users[:, :16]
    table[:, 16:] = table[:, :16] * (1 + 1e-5 * random.normal(size=(1500, 16)))
    check(users, table, 10, barring(len(users), 1500, 1), block)


def test_queries_of_zeros_and_scores_below_zero(block):
    users, table = drawn(900, 8, 4)
    users[:20] = 0
    table[:, 0] = -np.abs(table).sum(axis=1)
    users[20:, 0] = 10 * np.abs(users[20:]).max(axis=1)
    check(users, table, 12, barring(len(users), 900, 5), block)


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e18, 1e30])
def test_numbers_of_any_size(scale, block):
    users, table = drawn(800, 12, 6)
    check(users * scale, (table * min(scale, 1e18)).astype(np.float32), 5, barring(len(users), 800, 7), block)


@pytest.mark.parametrize("items", [1, 2, 63, 64, 65])
def test_few_items_and_lists_longer_than_the_catalogue(items, block):
    users, table = drawn(items, 5, items)
    check(users, table, 100, barring(len(users), items, items), block)
    nothing = Barred(np.ones(items, bool), np.zeros(len(users) + 1, np.int64), np.zeros(0, np.int32))
    check(users, table, 3, nothing, block)


def test_blocks_side_by_side_come_in_order_and_leave_the_callers_threads_alone(monkeypatch):
    """Not by torch's own setting: MKL keeps that for good, past every limit that other tests set."""
    torch = pytest.importorskip("torch")
    monkeypatch.setenv("ATTUNE_THREADS", "3")
    users, table = drawn(2000, 16, 11, users=9 * (FEW + 1))
    barred = barring(len(users), 2000, 2)
    with threadpool_limits(2, "openmp"):
        check(users, table, 10, barred, FEW + 1)
        check(users, table, 10, barred, 7 * (FEW + 1) + FEW // 2)  # the last is multiplied in float32
        assert torch.get_num_threads() == 2


def test_the_way_is_chosen_by_the_work(monkeypatch):
    table = Table(np.ones((1000, 10), np.float32))
    assert table.block(100) == FEW
    monkeypatch.setattr(products, "WORTH", 1e6)
    monkeypatch.setattr(watch, "multiplies_bfloat16", lambda: True)
    assert table.block(99) == FEW
    assert table.block(100) == products.MANY
    monkeypatch.setattr(products, "MOST", 100_000)
    assert table.block(100) == 100
    monkeypatch.setattr(watch, "multiplies_bfloat16", lambda: False)
    assert table.block(100) == FEW


def test_one_query_over_a_large_table_is_multiplied_in_whole_numbers():
    users, table = drawn(16_384, 257, 9)
    asked = []
    of = Table(table)
    made = of._whole_products
    object.__setattr__(of, "_whole_products", lambda users: asked.append(len(users)) or made(users))
    nothing = Barred(np.zeros(16_384, bool), np.zeros(len(users) + 1, np.int64), np.zeros(0, np.int32))
    list(of.best([(users[n : n + 1], nothing.part(n, n + 1)) for n in range(3)], 20))
    list(of.best([(users[:2], nothing.part(0, 2))], 20))
    assert asked == [1, 1, 1]
    asked.clear()
    object.__setattr__(of, "items", table[:16_000])  # a little less than LARGE
    few = Barred(nothing.everybody[:16_000], nothing.offsets, nothing.rows)
    list(of.best([(users[:1], few.part(0, 1))], 20))
    assert asked == []


@pytest.mark.parametrize(("items", "factors"), [(500, 3), (2000, 64), (900, 700)])
def test_whole_products_err_by_less_than_their_bound(items, factors):
    users, table = drawn(items, factors, factors)
    table[::9] = np.nan
    table[1] = 0
    users[0] = 0
    users[1, 0] = 1e6  # one number far above the others leaves few steps for those
    table[3, 0] = 1e6
    of, worst = Table(table), 0.0
    for user in users:
        found, twice = of._whole_products(user[None])
        error = np.abs(found[0] - table.astype(np.float64) @ user)
        assert np.isnan(found[0, ::9]).all()
        assert (np.delete(error, np.s_[::9]) <= twice[0] / 2).all()
        if user.any():
            worst = max(worst, float(np.nanmax(error) / twice[0]))
    assert 0.001 < worst < 0.5


def test_a_candidate_set_is_small_where_the_bound_separates():
    """The bound would be of no use if most items were within it."""
    users, table = drawn(20_000, 64, 8, users=FEW)
    rough, of = users.astype(np.float32), Table(table)
    margins = 2 * products._error(users, rough, of.longest, 0.0)
    query, _ = products.candidates(rough @ table.T, 20, None, margins)
    assert len(query) <= 21 * FEW
    listed = []
    for user in users:
        found, margin = of._whole_products(user[None])
        listed.append(len(products.candidates(found, 20, None, margin)[0]))
    assert np.mean(listed) <= 100
