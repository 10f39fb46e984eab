"""Updates against fits on a made file: what is old, what is new, what is measured on what."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks import update
from benchmarks.process import NotReached


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty users come one after another and walk along a ring of items, in the form of the real file."""
    random = np.random.default_rng(0)
    rows = []
    for user in range(1, 61):
        start = int(random.integers(20))
        rows += [
            (user, (start + n) % 20 + 1, 100 * user + n * 97, n) for n in range(int(random.integers(4, 16)))
        ]
    rows += [(user, 21, 100 * user + 1400, 99) for user in range(41, 50)]
    rows.append((60, 1, None, 99))
    folder = tmp_path_factory.mktemp("data")
    (folder / update.FILE).parent.mkdir()
    made = pl.DataFrame(rows, ["user_id", "movie_id", "timestamp", "seq_pos"], orient="row").cast(pl.Int32)
    made.sample(fraction=1.0, shuffle=True, seed=1).write_parquet(folder / update.FILE)
    return folder


def test_the_log_is_in_order_and_has_only_what_has_a_time(data: Path) -> None:
    log = update.interactions(data)
    assert len(log) == pl.read_parquet(data / update.FILE)["timestamp"].count()
    assert log["timestamp"].is_sorted()
    assert update.interactions(data, 7).equals(log.head(7))
    with pytest.raises(NotReached, match="set ATTUNE_DATA"):
        update.interactions(data / "nowhere")


@pytest.mark.parametrize(("name", "settings"), [("ease", {"l2": 2.0}), ("als", {"factors": 4})])
def test_a_row_holds_the_update_against_the_fit(data: Path, name: str, settings: dict[str, float]) -> None:
    row = update.compare(str(data), name, json.dumps(settings), 0)
    assert set(update.FIGURES) < set(row)
    assert row["new_users"] > 0
    assert row["new_items"] == 1
    assert row["kept"] == row["ndcg@10"] / row["ndcg_full"]
    assert row["ratio"] == row["fit_s"] / row["seconds"]
    if name == "ease":
        assert row["ndcg@10"] == row["ndcg_full"] > row["ndcg_old"] > 0
    else:
        assert row["ndcg@10"] != row["ndcg_full"]


def test_every_setting_is_one_its_recommender_takes() -> None:
    for name, settings in update.SETTINGS.items():
        update.RECOMMENDERS[name].config_class(**settings)
