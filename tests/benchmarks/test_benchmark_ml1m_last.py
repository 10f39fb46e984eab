"""Leave-last-out on a made file: what is truth, what is history, what is chosen on what."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks import ml1m_last
from benchmarks.process import NotReached
from recsys.evaluation import queries


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty users walk along a ring of twelve items, in the form of the real file."""
    random = np.random.default_rng(0)
    rows = []
    for user in range(1, 61):
        start = int(random.integers(12))
        rows += [(user, (start + n) % 12 + 1, n, 0, 0) for n in range(int(random.integers(4, 9)))]
    folder = tmp_path_factory.mktemp("data")
    (folder / ml1m_last.FILE).parent.mkdir()
    columns = ["user", "item", "pos", "raw_user_id", "raw_movie_id"]
    made = pl.DataFrame(rows, columns, orient="row").cast(pl.Int32)
    made.sample(fraction=1.0, shuffle=True, seed=1).write_parquet(folder / ml1m_last.FILE)
    return folder


def test_the_last_item_is_the_truth_and_the_rest_is_known(data: Path) -> None:
    log = ml1m_last.interactions(data)
    rows = pl.read_parquet(data / ml1m_last.FILE).sort("user", "pos")
    catalogue = ml1m_last.whole_catalogue(log)
    assert len(catalogue.items) == 12
    expected = rows.group_by("user").agg(pl.col("item").last()).sort(pl.col("user").cast(pl.String))
    test = ml1m_last.cut(log, catalogue)
    assert test.truth["item_id"].to_list() == expected["item"].cast(pl.String).to_list()
    assert len(test.train) == len(log) - 60
    earlier = ml1m_last.cut(test.train, catalogue)
    second = rows.group_by("user").agg(pl.col("item").get(-2)).sort(pl.col("user").cast(pl.String))
    assert earlier.truth["item_id"].to_list() == second["item"].cast(pl.String).to_list()
    asked = queries(test, catalogue, ml1m_last.CONFIG)
    assert catalogue.candidates(asked.at).all()
    assert np.array_equal(asked.seen.items, asked.histories.items)
    assert len(ml1m_last.interactions(data, users=5)["user_id"].unique()) == 5
    with pytest.raises(NotReached, match="set ATTUNE_DATA"):
        ml1m_last.interactions(data / "nowhere")


def test_a_row_chooses_on_train_and_scores_the_test_once(data: Path) -> None:
    small = {"factors": 16, "max_length": 8, "batch_size": 16, "dropout": 0.0, "epochs": 40}
    choices = [{**small, **ml1m_last.STOPPED, "learning_rate": rate} for rate in (1e-6, 0.01)]
    row = ml1m_last.last(str(data), "sasrec", json.dumps(choices), 0, 0)
    chosen = json.loads(row["settings"])
    assert chosen["learning_rate"] == 0.01
    assert 1 < chosen["epochs"] <= 40
    assert "patience" not in chosen
    assert row["users"] == 60
    assert row["hit_rate@10"] >= row["ndcg@10"] > 0.9
    few = ml1m_last.last(str(data), "sasrec", json.dumps(choices[::-1]), 0, 3)
    assert json.loads(few["settings"]) == {**small, "learning_rate": 0.01, "epochs": 3}
    row = ml1m_last.last(str(data), "ease", json.dumps([{"l2": 1e9}, {"l2": 5.0}]), 0, 0)
    assert json.loads(row["settings"]) == {"l2": 5.0}
    row = ml1m_last.last(str(data), "popularity", json.dumps([{}]), 0, 0)
    assert row["ndcg@10"] < 0.9


def test_every_choice_is_one_its_recommender_takes() -> None:
    for name, choices in ml1m_last.CHOICES.items():
        for settings in choices:
            ml1m_last.KINDS[name].config_class(**settings)
        assert len({"patience" in settings for settings in choices}) == 1
