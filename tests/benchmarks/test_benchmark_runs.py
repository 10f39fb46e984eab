"""Each benchmark in its quick form, and the peers against each other."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_series_equal
from scipy.sparse import csr_matrix

from benchmarks import log, lookup, lookup_data, speed_accuracy, speed_work, speed_world
from benchmarks.lookup_data import LookupConfig
from benchmarks.profile_polars import polars_profiles
from profiles.schema import TIME

ROOT = Path(__file__).parents[2]
Run = Callable[..., dict[str, dict[str, Any]]]


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """`quick(name, *options)` runs a benchmark as a person would and returns its rows by name."""
    folder = tmp_path_factory.mktemp("benchmarks")
    (folder / "data").mkdir()

    def quick(name: str, *options: str) -> dict[str, dict[str, Any]]:
        command = [sys.executable, "-m", f"benchmarks.{name}", "--quick", *options]
        command += ["--data", str(folder / "data"), "--kept", str(folder / "rows")]
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False, env=os.environ
        )
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout.splitlines()[-1])
        assert found["benchmark"] == name
        assert found["quick"]
        assert found["data"]["users"] > 0
        left = [path.name for path in (folder / "data").iterdir() if path.name.startswith(("scratch", "."))]
        assert not left
        return {row["name"]: row for row in found["rows"]}

    return quick


def sound(row: dict[str, Any], *figures: str) -> None:
    """Assert that a row has its figures, or says why not."""
    for name in (*figures, "peak_mb"):
        assert name in row
        assert row[name] is None or row[name] > 0
    assert ("reason" in row) == any(row[name] is None for name in figures)


def test_log(quick: Run) -> None:
    rows = quick("log")
    sound(rows["write"], "seconds", "events_per_s", "disk_mb")
    assert rows["write"]["events_per_s"]


def test_profiles(quick: Run) -> None:
    rows = quick("profiles")
    peer = rows["duckdb_group_by"]
    assert peer["counted"] == peer["events"] == 20_000
    assert rows["polars"]["columns"] > rows["pandas"]["columns"] > 60
    assert rows["polars"]["users"] == rows["pandas"]["users"] == peer["users"] == 200
    days = {name: rows.pop(name) for name in ("snapshot", "day")}
    for row in rows.values():
        sound(row, "seconds", "columns", "users")
    for row in days.values():
        sound(row, "seconds", "new_events")
    assert days["snapshot"]["new_events"] == 20_000
    assert 20 < days["day"]["new_events"] < 200
    assert days["day"]["peer"] == "snapshot"
    ours = rows["full"]
    assert ours["peer"] == "duckdb_group_by"
    assert ours["seconds"] is None or ours["ratio"] == pytest.approx(peer["seconds"] / ours["seconds"])
    assert rows["full_10m"]["reason"] == "beyond --events 20,000"


def test_profiles_of_another_size(quick: Run) -> None:
    rows = quick("profiles", "--events", "3_000", "--rows", "polars")
    assert list(rows) == ["polars"]
    assert rows["polars"]["users"] == 30


def test_ingest(quick: Run) -> None:
    rows = quick("ingest")
    assert rows["csv"]["rows"] == rows["duckdb_csv"]["rows"] == rows["sqlite_csv"]["rows"] == 20_000
    assert rows["csv"]["ratio"] == pytest.approx(rows["csv"]["rows_per_s"] / rows["duckdb_csv"]["rows_per_s"])
    for name in ("append_1", "append_8", "append_64", "append_1000"):
        sound(rows[name], "events_per_s", "p50_ms", "p99_ms", "fsync_ms")
        assert rows[name]["p50_ms"] <= rows[name]["p99_ms"]
        batch = 1000 if name == "append_1000" else 1
        assert rows[name]["events_per_s"] * rows[name]["seconds"] == pytest.approx(
            rows[name]["calls"] * batch
        )


def test_lookup(quick: Run) -> None:
    rows = quick("lookup")
    for row in rows.values():
        sound(row, "p50_ms", "p99_ms", "first_ms")
    for peer in ("profile_duckdb", "profile_polars", "history_duckdb", "history_polars"):
        assert rows[peer]["reads"] == 200


def test_speed(quick: Run) -> None:
    rows = quick("speed", "--rows", "topk,topk_faiss,live_ease,growth_ease_10m")
    sound(rows["topk"], "seconds", "ratio")
    assert rows["topk"]["ratio"] == pytest.approx(rows["topk"]["peer_seconds"] / rows["topk"]["seconds"])
    assert rows["topk"]["equal_lists"] == 1
    assert rows["topk_faiss"]["seconds"] > 0
    assert rows["topk_faiss"]["ratio"] is None
    assert "no folder is given where faiss may be installed" in rows["topk_faiss"]["reason"]
    assert 0 < rows["live_ease"]["p50_ms"] <= rows["live_ease"]["p99_ms"]
    assert rows["live_ease"]["listed"] == 20
    sound(rows["growth_ease_10m"], "seconds")


def test_evaluation(quick: Run) -> None:
    rows = quick("evaluation")
    ours, peer = rows["metrics_100k"], rows["ranx"]
    sound(ours, "seconds", "ratio", "recall@10", "map@10")
    assert ours["ratio"] == pytest.approx(peer["seconds"] / ours["seconds"])
    for name in ("recall@10", "map@10"):
        assert ours[name] == pytest.approx(peer[name], abs=1e-9)
        assert 0.01 < ours[name] < 0.5
    assert "no folder is given where rectools may be installed" in rows["rectools"]["reason"]


def test_the_accuracy_beside_speed_is_ndcg_of_what_was_not_done_in_train(tmp_path: Path) -> None:
    pairs = {"train": [(0, 5), (0, 9), (1, 9), (2, 7), (9, 8)], "test": [(0, 7), (0, 8), (1, 5), (1, 7)]}
    for name, rows in pairs.items():
        pl.DataFrame(rows, schema=["user", "item"], orient="row").write_parquet(tmp_path / f"{name}.parquet")
    train, test = speed_accuracy.parts(str(tmp_path), 3)
    assert train.toarray().tolist() == [[1, 0, 1], [0, 0, 1], [0, 1, 0]]  # items 5, 7 and 9: nobody did 8
    assert test.toarray().tolist() == [[0, 1, 0], [1, 1, 0], [0, 0, 0]]
    items = np.array([[1, 0], [0, 1], [9, 9]], np.float32)
    users = np.array([[0, 1], [1, 2], [1, 1]], np.float32)
    assert speed_accuracy.ndcg(users, items, train, test) == pytest.approx(1)
    second = csr_matrix([[0, 1, 0], [0, 1, 0], [0, 0, 0]])  # for user 1 item 7 stands behind item 5
    expected = (1 + 1 / np.log2(3)) / 2
    assert speed_accuracy.ndcg(users[:, ::-1], items, train, second) == pytest.approx(expected)


def test_the_peers_of_speed_do_the_same_work() -> None:
    assert speed_work.implicit_item_knn("4000", 1)["equal_lists"] == 1
    assert speed_work.pyg_lightgcn_step("4000", 1)["gradient_apart"] < 1e-5


def test_what_is_fitted_to_answer_live_knows_every_item() -> None:
    place = speed_world.world("3000")
    done = speed_world.covering(place)
    assert np.array_equal(np.unique(done.histories.items), np.arange(len(place.catalogue.items)))


# The peers


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> log.Log:
    folder = tmp_path_factory.mktemp("peers") / "log"
    log.make(folder, 6_000, 5)
    return log.Log(folder)


def test_polars_and_pandas_say_the_same(small: log.Log) -> None:
    from benchmarks.profile_pandas import pandas_profiles

    one, other = polars_profiles(small), pandas_profiles(small)
    assert len(set(other.columns) - {"user_id"}) > 80
    for name in other.columns:
        left, right = one[name], other[name]
        if left.dtype not in (pl.String, TIME):
            left, right = left.cast(pl.Float64), right.cast(pl.Float64).fill_nan(None)
        assert_series_equal(left, right, check_dtypes=False, rel_tol=1e-9, abs_tol=1e-12)


def test_polars_counts_and_lists_against_plain_loops(small: log.Log) -> None:
    events = pl.concat(pl.read_parquet(file) for file in small.events)
    items = {row["item_id"]: row for row in pl.read_parquet(small.items).iter_rows(named=True)}
    weights = {"view": 1.0, "cart": 2.0, "purchase": 4.0, "rating": 1.0}
    everybody: dict[str, float] = {}
    for row in events.filter(pl.col("item_id").is_not_null()).iter_rows(named=True):
        for tag in items[row["item_id"]]["tags"]:
            everybody[tag] = everybody.get(tag, 0.0) + weights[row["event_type"]]
    whole = sum(everybody.values())
    for found in polars_profiles(small).iter_rows(named=True):
        past = events.filter(user_id=found["user_id"]).rows(named=True)
        touched = [row["item_id"] for row in past if row["item_id"]]
        assert found["last_items"] == list(dict.fromkeys(reversed(touched)))[:20]
        assert found["distinct_items"] == len(set(touched))
        ages = [(small.as_of - row["timestamp"]) / timedelta(days=1) for row in past]
        week = [row for row, age in zip(past, ages, strict=True) if age < 7]
        assert found["count_view_7d"] == sum(row["event_type"] == "view" for row in week)
        month = [row for row, age in zip(past, ages, strict=True) if row["item_id"] and age < 30]
        met = list({row["item_id"]: row for row in reversed(past) if row["item_id"]}.values())
        fresh = [r["timestamp"] - items[r["item_id"]]["available_from"] < timedelta(days=30) for r in met]
        assert found["distinct_items_30d"] == len({r["item_id"] for r in month})
        explored = sum(r in month for r in met) / len(month) if month else None
        assert found["explore_share"] == (None if explored is None else pytest.approx(explored))
        assert found["novelty_seeking"] == pytest.approx(mean(fresh))
        assert found["mean_price"] == pytest.approx(mean(items[i]["price"] for i in touched))
        newest = max(row["timestamp"] for row in past if row["item_id"])
        strength: dict[str, float] = {}
        for row in past:
            if row["item_id"]:
                days = (newest - row["timestamp"]).total_seconds() / 86_400
                for tag in items[row["item_id"]]["tags"]:
                    strength[tag] = strength.get(tag, 0.0) + weights[row["event_type"]] * 0.5 ** (days / 30)
        total = sum(strength.values())
        shares = {t: (s + 5 * everybody[t] / whole) / (total + 5) for t, s in strength.items()}
        assert [pair["share"] for pair in found["tag_affinity"]] == pytest.approx(
            sorted(shares.values(), reverse=True)[:5], rel=1e-6
        )
        for pair in found["tag_affinity"]:
            assert pair["share"] == pytest.approx(shares[pair["value"]], rel=1e-9)


# What lookups read


def test_lookup_data_is_by_user_and_has_the_registered_columns(tmp_path: Path) -> None:
    of = LookupConfig(1_500, 4)
    made = {what: of.folder(tmp_path, what) for what in ("profiles", "history")}
    lookup_data.make_profiles(made["profiles"], 1_500, 4)
    lookup_data.make_history(made["history"], 1_500, 4)
    profiles = pl.read_parquet(lookup_data.files(made["profiles"]))
    assert profiles["user_id"].is_sorted()
    assert profiles["user_id"].n_unique() == len(profiles) == 1_500
    assert dict(profiles.drop("user_id").schema) == lookup_data.registered()
    assert profiles.width > 60
    history = pl.read_parquet(lookup_data.files(made["history"]))
    assert len(history) == of.counts["events"] == 15_000
    assert history["user_id"].n_unique() == 1_500
    assert history.select("user_id", "timestamp").equals(
        history.select("user_id", "timestamp").sort(pl.all())
    )
    assert history["user_id"].value_counts()["count"].max() > 50


def test_lookup_data_of_several_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup_data, "PART", 100)
    lookup_data.make_history(tmp_path / "history", 250, 0)
    parts = [pl.read_parquet(file)["user_id"] for file in lookup_data.files(tmp_path / "history")]
    assert [part.n_unique() for part in parts] == [100, 100, 50]
    assert sum(map(len, parts)) == 2_500
    assert pl.concat(parts).is_sorted()


def test_who_is_asked_for() -> None:
    asked = lookup.drawn(1_000, 0, 5_000)
    assert asked[0][1]
    assert 0.97 < sum(known for _, known in asked) / len(asked) < 1
    assert all(name.startswith("u") == known and int(name[1:]) < 1_000 for name, known in asked)
    assert asked == lookup.drawn(1_000, 0, 5_000)


@pytest.mark.parametrize("wrong", ["nothing", "somebody", "everybody"])
def test_a_wrong_answer_fails_the_row(tmp_path: Path, wrong: str) -> None:
    answers: dict[str, Callable[[str], dict[str, Any]]] = {
        "nothing": lambda user_id: {},
        "somebody": lambda user_id: {"user_id": "u0000001"} if user_id[0] == "u" else {},
        "everybody": lambda user_id: {"user_id": user_id},
    }
    with pytest.raises(AssertionError, match="asked for"):
        lookup._measured(lambda folder: answers[wrong], str(tmp_path), 100, 0, 1_000)
