"""Vectors of one's own, from the configuration to a release that knows new items by them."""

import numpy as np
import polars as pl
import pytest

from profiles.schema import ContractError
from profiles.simulate import WorldConfig, simulate
from serving.doctor import examine
from serving.pipeline import Pipeline
from serving.settings import load
from serving.workspace import Workspace

SETTINGS = """\
events = [{ path = "events.parquet" }]
items = [{ path = "items.parquet" }]
[[vectors]]
path = "images.parquet"
[text]
enabled = false
[recommenders.popularity]
[recommenders.content_vectors]
half_life_days = 30
[blend]
weights = { content_vectors = 1 }
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("brought")
    shop = simulate(WorldConfig(users=60, items=40, events=1500, days=40))
    shop.events.filter(pl.col("item_id") != "i0001").write_parquet(folder / "events.parquet")
    shop.items.write_parquet(folder / "items.parquet")
    ids = shop.items["item_id"].to_list()
    vectors = np.random.default_rng(0).normal(size=(len(ids) + 1, 4))
    vectors[ids.index("i0001")] = vectors[ids.index("i0002")] * 3
    pl.DataFrame({"item_id": [*ids, "unheard of"], "vector": vectors}).write_parquet(
        folder / "images.parquet"
    )
    (folder / "attune.toml").write_text(SETTINGS)
    Pipeline(Workspace(folder / "workspace", folder / "attune.toml")).run()
    return folder / "attune.toml"


def test_a_new_item_is_recommended_by_its_image(config, log_of):
    workspace = Workspace(config.parent / "workspace", config)
    release = workspace.release
    rows = release.catalogue.items
    asked = log_of([("u", "i0002", 0.0, 1.0)])
    queries = release.catalogue.queries(["u"], asked, workspace.snapshot.as_of)
    assert release.recommend(queries, 3).ranked.rows[0, 0] == rows.row("i0001")
    history, parts = release.recommenders["content_vectors"].influence(queries, np.array([rows.row("i0001")]))
    assert history.tolist() == [rows.row("i0002")]
    np.testing.assert_allclose(parts, 1, rtol=1e-5)


def test_what_was_left_out_is_said_and_a_changed_file_fits_again(config, tmp_path):
    said = []
    workspace = Workspace(tmp_path / "workspace", config)
    pipeline = Pipeline(workspace)
    pipeline.progress.say = said.append
    pipeline.run(("ingest", "build"))
    assert "build: vectors 'images': 40 items; left out: 1 of unknown items, 0 null or all zeros" in said
    assert (tmp_path / "workspace" / workspace.state()["build"]["vectors"] / "images.parquet").is_file()
    again = Pipeline(Workspace(config.parent / "workspace", config))
    again.run()
    assert not any(again.ran.values())
    images = pl.read_parquet(config.parent / "images.parquet")
    images.head(39).write_parquet(config.parent / "images.parquet")
    again = Pipeline(Workspace(config.parent / "workspace", config))
    again.run()
    assert again.ran == {"ingest": False, "check": False} | dict.fromkeys(
        ("build", "train", "recommend", "evaluate"), True
    )
    images.write_parquet(config.parent / "images.parquet")


def test_a_file_that_is_not_there_is_told_with_its_line(config, tmp_path):
    (tmp_path / "attune.toml").write_text(
        SETTINGS.replace("events.parquet", str(config.parent / "events.parquet")).replace(
            "items.parquet", str(config.parent / "items.parquet")
        )
    )
    pipeline = Pipeline(Workspace(tmp_path / "workspace", tmp_path / "attune.toml"))
    pipeline.run(("ingest",))
    with pytest.raises(ContractError, match=r"attune\.toml, line 4: there is no file .*images\.parquet"):
        pipeline.run(("build",))
    told = [
        message
        for _, level, message in examine(tmp_path / "none", tmp_path / "attune.toml")
        if level == "FAIL"
    ]
    assert any("there is no file" in message for message in told)


def test_two_files_of_one_name_are_refused(tmp_path):
    path = tmp_path / "attune.toml"
    path.write_text(SETTINGS.replace("[text]", '[[vectors]]\npath = "others/images.parquet"\n[text]'))
    with pytest.raises(ContractError, match=r"line 5: \[\[vectors\]\] 'images' is there twice"):
        load(path)
