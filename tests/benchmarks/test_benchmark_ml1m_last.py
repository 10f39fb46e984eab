"""Leave-last-out on a made file: what is truth, what is history, what is chosen on what."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks import beauty, gowalla, leave_last_out, ml1m_last, ml1m_time, selection, speed_work
from benchmarks.process import NotReached
from benchmarks.transductive import KINDS
from benchmarks.trials import TEST, Bench
from recsys.models import RECOMMENDERS


def ring(users: int, seed: int = 0) -> pl.DataFrame:
    """Users walk along a ring of twelve items, in the form of the real file."""
    random = np.random.default_rng(seed)
    rows = []
    for user in range(1, users + 1):
        start = int(random.integers(12))
        rows += [(user, (start + n) % 12 + 1, n) for n in range(int(random.integers(4, 9)))]
    return pl.DataFrame(rows, ["user", "item", "pos"], orient="row").cast(pl.Int32)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty users on a ring; of Beauty the odd items are of one category."""
    folder = tmp_path_factory.mktemp("data")
    for file in (ml1m_last.FILE, beauty.FILE):
        (folder / file).parent.mkdir()
        ring(60).sample(fraction=1.0, shuffle=True, seed=1).write_parquet(folder / file)
    items = pl.DataFrame({"item": range(1, 13), "attributes": [[n % 2] for n in range(1, 13)]})
    items.write_parquet(folder / beauty.ITEMS_FILE)
    return folder


@pytest.fixture
def kept(tmp_path: Path) -> str:
    return str(tmp_path / "kept")


def test_the_last_item_is_the_truth_and_the_rest_is_known(data: Path) -> None:
    log = ml1m_last.log(data, False)
    rows = pl.read_parquet(data / ml1m_last.FILE).sort("user", "pos")
    test = ml1m_last.stage(data, TEST, False)
    catalogue = test.train.catalogue
    assert len(catalogue.items) == 12
    asked = test.asked[TEST]
    expected = rows.group_by("user").agg(pl.col("item").last()).sort(pl.col("user").cast(pl.String))
    assert asked.truth["item_id"].to_list() == expected["item"].cast(pl.String).to_list()
    assert len(test.train.histories.items) == len(log) - 60
    cut = ml1m_last.stage(data, leave_last_out.CUT, False)
    second = rows.group_by("user").agg(pl.col("item").get(-2)).sort(pl.col("user").cast(pl.String))
    earlier = cut.asked[leave_last_out.CUT]
    assert earlier.truth["item_id"].to_list() == second["item"].cast(pl.String).to_list()
    assert len(cut.train.histories.items) == len(log) - 120
    # One that stops by the newest item of what it learns from stops by the truth of the cut.
    assert cut.until_truth is not None
    assert np.array_equal(cut.until_truth.histories.items, test.train.histories.items)
    assert catalogue.candidates(asked.queries.at).all()
    assert np.array_equal(asked.queries.seen.items, asked.queries.histories.items)
    assert [catalogue.items.ids[int(row[0])] for row in asked.rows(catalogue)] == asked.truth[
        "item_id"
    ].to_list()
    with pytest.raises(NotReached, match="set ATTUNE_DATA"):
        ml1m_last.log(data / "nowhere", False)


def test_speed_is_measured_on_the_same_file(data: Path) -> None:
    assert speed_work.ease_fit(str(data), False, 1)["items"] == 12
    assert 0 <= speed_work.sasrec_epoch(str(data), False, 1)["ndcg@10"] <= 1


def test_a_row_chooses_on_the_cut_and_scores_the_test_once(data: Path, kept: str) -> None:
    small = {"factors": 16, "max_length": 8, "batch_size": 16, "dropout": 0.0, "epochs": 40}
    grid = [{**small, **ml1m_last.STOPPED, "epochs": 40, "learning_rate": rate} for rate in (1e-6, 0.01)]
    row = selection.validated("ml1m_last", str(data), kept, False, "sasrec", grid, 2)
    settings = json.loads(row["settings"])
    assert settings["learning_rate"] == 0.01
    assert 1 < settings["epochs"] <= 40
    assert not set(settings) & {"patience", "validation_users", "seed"}
    assert row["hit_rate@10"] >= row["ndcg@10"] > 0.9
    assert row["ndcg@10_sd"] >= 0
    bench = Bench.of("ml1m_last", str(data), kept, False)
    runs = [bench.trial("sasrec", {**settings, "seed": seed}, TEST) for seed in (0, 1)]
    assert row["ndcg@10"] == pytest.approx(np.mean([run["ndcg@10"] for run in runs]))
    row = selection.validated("ml1m_last", str(data), kept, False, "ease", [{"l2": 1e9}, {"l2": 5.0}], 1)
    assert json.loads(row["settings"]) == {"l2": 5.0}


def test_a_fit_that_stops_lists_the_cut_without_having_learned_its_truth(data: Path, kept: str) -> None:
    config = {"factors": 8, "max_length": 8, "epochs": 3, "patience": 3, "validation_users": 100}
    bench = Bench.of("ml1m_last", str(data), kept, False)
    found = bench.trial("sasrec", config, leave_last_out.CUT)
    assert 1 <= found["epochs"] <= 3
    # The same epochs on what lies before the truth of the cut: the same lists.
    stopped = {"factors": 8, "max_length": 8, "epochs": found["epochs"]}
    bench.trial("sasrec", stopped, leave_last_out.CUT)
    lists = [bench.lists("sasrec", c, leave_last_out.CUT) for c in (config, stopped)]
    assert np.array_equal(lists[0].rows, lists[1].rows)
    assert np.array_equal(lists[0].scores, lists[1].scores, equal_nan=True)


def test_the_blend_is_chosen_on_the_cut_and_told_against_the_best_single_row(data: Path, kept: str) -> None:
    grids = {"sequential_ease": [{"l2": 1.0}], "popularity": [{}], "random": [{}]}
    row = selection.blend("beauty", str(data), kept, False, grids, 1)
    weights = json.loads(row["settings"])
    assert sum(weights.values()) == pytest.approx(1, abs=0.01)
    bench = Bench.of("beauty", str(data), kept, False)
    singles = {name: bench.trial(name, grid[0], TEST)["ndcg@10"] for name, grid in grids.items()}
    assert row["best"] == max(singles, key=singles.__getitem__)
    assert row["gain"] == pytest.approx(row["ndcg@10"] - max(singles.values()))
    assert row["gain_low"] <= row["gain"] <= row["gain_high"]


def test_the_categories_of_beauty_reach_those_who_read_labels(data: Path, kept: str) -> None:
    bench = Bench.of("beauty", str(data), kept, False)
    bench.trial("content_tags", {}, TEST)
    listed = bench.lists("content_tags", {}, TEST)
    stage = bench.stage(TEST)
    categories = stage.train.catalogue.attributes["categories"].to_list()
    assert {tuple(c) for c in categories} == {("0",), ("1",)}
    assert (listed.rows[:, 0] >= 0).all()


@pytest.mark.parametrize("table", [ml1m_last, ml1m_time, beauty, gowalla])
def test_every_recommender_has_its_row_and_every_choice_is_one_it_takes(table) -> None:
    assert set(table.GRIDS) | set(table.SKIPPED) >= set(RECOMMENDERS)
    assert not set(table.GRIDS) & set(table.SKIPPED)
    for name, grid in table.GRIDS.items():
        for settings in grid:
            KINDS[name].config_class(**settings)
        assert len({"patience" in settings for settings in grid}) == 1
