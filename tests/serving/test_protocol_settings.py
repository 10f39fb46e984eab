"""Protocols named in attune.toml, through the whole evaluation."""

import json

import polars as pl
import pytest

from profiles import manifest
from recsys.split import splits
from serving.pipeline import Pipeline
from serving.workspace import Workspace

SOURCES = """
[recommenders.popularity]
[recommenders.item_knn]

[blend]
weights = { popularity = 1, item_knn = 2 }

[text]
enabled = false

[evaluation]
"""


@pytest.fixture
def evaluated(workspace):
    """Return a function that evaluates two sources under `[evaluation]` lines and opens what came out."""
    config = workspace.folder / "attune.toml"
    head = config.read_text().split("[recommenders")[0]

    def run(lines: str) -> Workspace:
        config.write_text(head + SOURCES + lines)
        opened = Workspace(workspace.folder, config)
        Pipeline(opened).run(("build", "evaluate"))
        return opened

    return run


def measured(workspace):
    frame = pl.read_parquet(workspace.folder / "metrics.parquet").filter(pl.col("user_id").is_not_null())
    return frame.select("source", "metric", "k", "user_id", "value").sort("source", "metric", "k", "user_id")


def test_a_split_in_files_gives_what_the_same_cut_of_the_log_gives(evaluated):
    opened = evaluated("")
    expected, before = measured(opened), opened.state()["evaluate"]["key"]
    (split,) = Pipeline(opened).cuts(splits)
    later = opened.snapshot.frame("interactions").filter(pl.col("timestamp") > split.at)
    later = later.join(split.train, on=["user_id", "item_id"], how="anti")
    split.train.write_parquet(opened.root / "train.parquet")
    later.write_parquet(opened.root / "truth.parquet")
    lines = 'split = "given"\nfiles = { train = "train.parquet", truth = "truth.parquet" }\n'
    opened = evaluated(lines)
    assert measured(opened).equals(expected)
    assert opened.state()["evaluate"]["key"] != before
    later.filter(pl.col("user_id") != split.users[0]).write_parquet(opened.root / "truth.parquet")
    assert split.users[0] not in measured(evaluated(lines))["user_id"]  # another file is another evaluation


def test_validation_by_users_tests_the_others(evaluated):
    everybody = set(measured(evaluated(""))["user_id"])
    tested = set(measured(evaluated('validation = "users"\nvalidation_share = 0.25\n'))["user_id"])
    assert tested < everybody
    assert len(tested) == len(everybody) - round(0.25 * len(everybody))


def test_successive_fits_each_source_once(evaluated):
    opened = evaluated('target = "successive"\nsteps = 4\nvalidation = "users"\n')
    about = json.loads((opened.folder / "evaluation.json").read_bytes())
    assert len(about["split"]["at"]) == 4
    keys = {Pipeline(opened).laboratory.cut_key(split) for split in Pipeline(opened).cuts(splits)}
    assert len(keys) == 1
    fits = [manifest.read(place) for place in (opened.folder / "cache" / "fits").glob("[!.]*")]
    assert sum(fit["data"] in keys for fit in fits) == 2
