"""The Gowalla protocol on a tiny split: what is chosen, what is scored, and what is never looked at."""

import json

import numpy as np
import polars as pl
import pytest

from benchmarks import gowalla

GRID = [{"neighbours": 3, "alpha": 0.7}, {"neighbours": 30, "alpha": 0.7}]
GRIDS = {"rp3beta": GRID, "popularity": [{}]}


@pytest.fixture
def data(tmp_path):
    """Return a folder with 120 users of two tastes, 12 items each, two of them in the test."""
    random = np.random.default_rng(0)
    rows = []
    for user in range(120):
        taste = user % 2 * 40
        rows += [(user, int(item)) for item in taste + random.choice(40, 12, replace=False)]
    pairs = pl.DataFrame(rows, {"user": pl.Int32, "item": pl.Int32}, orient="row")
    asked = np.arange(len(pairs)) % 12 >= 10
    (tmp_path / "gowalla").mkdir()
    pairs.filter(~asked).write_parquet(tmp_path / "gowalla" / "train.parquet")
    pairs.filter(asked).write_parquet(tmp_path / "gowalla" / "test.parquet")
    ids = pl.DataFrame({"org_id": [str(10 * item) for item in range(80)], "remap_id": range(80)})
    ids.write_parquet(tmp_path / "gowalla" / "item_list.parquet")
    gowalla.interactions.cache_clear()
    return tmp_path


def test_a_cut_holds_out_a_fifth_of_each_users_train_items(data):
    train, test = gowalla.split(data, None, quick=False)
    assert (len(train), len(test)) == (1200, 240)
    cuts = [gowalla.split(data, seed, quick=False) for seed in gowalla.SEEDS]
    for known, asked in cuts:
        assert (asked.group_by("user_id").len()["len"] == 2).all()
        both = pl.concat([known, asked]).sort("user_id", "item_id")
        assert both.equals(train.sort("user_id", "item_id"))
    assert not cuts[0][1].equals(cuts[1][1])
    again = gowalla.split(data, 0, quick=False)
    assert again[1].equals(cuts[0][1])


def test_settings_and_weights_are_chosen_without_a_look_at_test(data):
    kept = data / "kept"
    row = gowalla.validated(str(data), str(kept), "rp3beta", GRID, False)
    blended = gowalla.blend(str(data), str(kept), GRIDS, False)
    assert row["recall@20"] > 0.2
    runs = [json.loads(file.read_bytes()) for file in kept.glob("trials/*/figures.json")]
    assert len(runs) >= 7  # three settings on two cuts, and a refit
    assert blended["seconds"] > sum(run["fit_s"] + run["rank_s"] for run in runs)
    assert blended["cpu_s"] > sum(run["cpu_s"] for run in runs)
    # Another test file: other figures, the same choices.
    file = data / "gowalla" / "test.parquet"
    test = pl.read_parquet(file)
    test.with_columns(item=(pl.col("item") + 40) % 80).write_parquet(file)
    gowalla.interactions.cache_clear()
    other = gowalla.validated(str(data), str(data / "other"), "rp3beta", GRID, False)
    again = gowalla.blend(str(data), str(data / "other"), GRIDS, False)
    assert other["settings"] == row["settings"]
    assert other["valid_ndcg@20"] == row["valid_ndcg@20"]
    assert again["settings"] == blended["settings"]
    assert other["recall@20"] < row["recall@20"]
    assert again["recall@20"] < blended["recall@20"]


def test_the_better_settings_of_the_cuts_are_taken(data):
    kept = str(data / "kept")
    row = gowalla.validated(str(data), kept, "rp3beta", GRID, False)
    means = [
        np.mean([gowalla.trial(str(data), kept, "rp3beta", c, s, False)["ndcg@20"] for s in gowalla.SEEDS])
        for c in GRID
    ]
    assert json.loads(row["settings"]) == GRID[int(np.argmax(means))]
    assert row["valid_ndcg@20"] == pytest.approx(max(means))


def test_a_trial_is_remembered_and_other_settings_are_another(data):
    kept = data / "kept"
    first = gowalla.trial(str(data), str(kept), "rp3beta", GRID[0], 0, False)
    assert gowalla.trial(str(data), str(kept), "rp3beta", GRID[0], 0, False) == first
    assert len(list((kept / "trials").iterdir())) == 1
    for seed, config in ((1, GRID[0]), (0, GRID[1]), (None, GRID[0])):
        gowalla.trial(str(data), str(kept), "rp3beta", config, seed, False)
    assert len(list((kept / "trials").iterdir())) == 4
