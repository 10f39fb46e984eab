"""The published data sets through their examples; skipped where ATTUNE_DATA does not say where they are."""

import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from profiles.interactions import interactions
from profiles.sources import Batch, Kind, read
from serving import cli
from serving.settings import load
from serving.workspace import Workspace

EXAMPLES = Path(__file__).parents[2] / "examples"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
CONFIGS = sorted(path.parent.name for path in EXAMPLES.glob("*/attune.toml"))

pytestmark = pytest.mark.data


@pytest.fixture
def data() -> Path:
    """The folder of the public data sets."""
    named = os.environ.get("ATTUNE_DATA")
    if not named:
        pytest.skip("ATTUNE_DATA is not set: it names the folder of the public data sets")
    return Path(named)


def needs(place: Path) -> Path:
    if not place.exists():
        pytest.skip(f"{place} is not there")
    return place


def attune(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["attune", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_example_loads_and_says_what_it_is_of(name):
    path = EXAMPLES / name / "attune.toml"
    settings = load(path)
    first = path.read_text().splitlines()
    assert first[0].startswith("# ")
    assert "https://" in first[0]
    assert f"attune run --config examples/{name}/attune.toml --workspace W" in path.read_text()
    for source in (*settings.events, *settings.items, *settings.users):
        assert source.name, "the name is part of event ids: it must not depend on which file is there"
        assert all(p.startswith(f"${{ATTUNE_DATA}}/{name}/") for p in source.paths)


@pytest.mark.parametrize("name", CONFIGS)
def test_an_example_without_the_data_says_which_variable_to_set(name, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("ATTUNE_DATA", raising=False)
    config = str(EXAMPLES / name / "attune.toml")
    assert attune(monkeypatch, "ingest", "--config", config, "--workspace", str(tmp_path / "w")) == 2
    told = capsys.readouterr().err
    assert told.count("names ${ATTUNE_DATA}, which is not set; set it to the folder") == 1


# Deskdrop


def test_deskdrop_from_the_log_to_the_lists(data, tmp_path, capsys, monkeypatch):
    needs(data / "deskdrop" / "users_interactions.parquet")
    text = (EXAMPLES / "deskdrop" / "attune.toml").read_text()
    assert "origins = 8\n" in text
    config = tmp_path / "attune.toml"
    config.write_text(text.replace("origins = 8\n", "origins = 2\n"))
    folder = tmp_path / "w"
    assert attune(monkeypatch, "run", "--config", str(config), "--workspace", str(folder)) == 0
    shown = capsys.readouterr()
    assert (
        "articles is skipped: there is no file" in shown.err
        or (data / "deskdrop/shared_articles.csv").exists()
    )
    assert "Evaluation" in shown.out

    found = json.loads((folder / "evaluation.json").read_bytes())
    assert found["split"]["protocol"] == "rolling"
    assert len(found["split"]["at"]) == 2
    assert 0 < found["split"]["unreachable_share"] < 1
    assert found["split"]["users"] > 100
    rows = {r["source"]: r for r in found["results"] if (r["metric"], r["k"]) == ("ndcg", 10)}
    assert set(rows) == {"blend", "popularity", "recent", "item_knn", "als", "ease", "content_text"}
    assert rows["recent"]["mean"] > rows["popularity"]["mean"] > 0  # news age
    assert rows["blend"]["low"] <= rows["blend"]["mean"] <= rows["blend"]["high"]
    if not (data / "deskdrop" / "shared_articles.csv").exists():
        assert rows["content_text"]["mean"] is None
        assert "text" in rows["content_text"]["reason"]

    workspace = Workspace(folder)
    lists = workspace.read("recommendations")
    assert lists["user_id"].n_unique() == 1895
    assert set(lists["source"]) == {"blend"}
    user = lists["user_id"].sort()[0]
    assert user.startswith("-")
    assert attune(monkeypatch, "show", "user", user, "--workspace", str(folder), "--json") == 0
    assert json.loads(capsys.readouterr().out)["user_id"] == user


# MovieLens 1M


RATINGS = 20_000


@pytest.fixture
def slices(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as ATTUNE_DATA names one, with the first ratings; ATTUNE_DATA names it."""
    origin = needs(data / "ml_1m")
    folder = tmp_path / "data" / "ml_1m"
    folder.mkdir(parents=True)
    pl.read_parquet(origin / "ratings.parquet").head(RATINGS).write_parquet(folder / "ratings.parquet")
    for name in ("movies", "users", "movies_extra_imdb"):
        pl.read_parquet(needs(origin / f"{name}.parquet")).write_parquet(folder / f"{name}.parquet")
    monkeypatch.setenv("ATTUNE_DATA", str(tmp_path / "data"))
    return folder


def read_all(config: Path) -> dict[str, Batch]:
    settings = load(config)
    kinds: dict[Kind, tuple] = {"events": settings.events, "items": settings.items, "users": settings.users}
    return {s.label: read(s, kind, config.parent, NOW) for kind, sources in kinds.items() for s in sources}


def test_movielens_is_read_and_keeps_its_promises(slices, tmp_path, monkeypatch, capsys):
    config, folder = str(EXAMPLES / "ml_1m" / "attune.toml"), str(tmp_path / "w")
    assert attune(monkeypatch, "ingest", "--config", config, "--workspace", folder) == 0
    assert "20,000 new events" in capsys.readouterr().err
    assert attune(monkeypatch, "check", "--workspace", folder, "--json") == 0
    found = {f["check"]: f for f in json.loads(capsys.readouterr().out)}
    assert {f["level"] for f in found.values()} <= {"PASS", "WARN"}
    assert found["unknown_items"]["level"] == "PASS"
    assert found["items_without_title"]["level"] == "PASS"
    store = Workspace(folder).store
    items = store.catalogue("items")
    assert items.filter(item_id="1")["title"].item() == "Toy Story (1995)"
    assert items.filter(item_id="1")["categories"].item().to_list() == ["Animation", "Children's", "Comedy"]
    assert items["text"].count() > 3000
    assert store.catalogue("users").filter(user_id="1")["gender"].item() == "F"
    kept = interactions(pl.concat(store.scan()), Workspace(folder).settings.interactions)
    assert set(kept["weight"]) == {0.0, 1.0}  # below four stars: seen, and nothing in its favour


def as_published(folder: Path) -> None:
    """Replace the Parquet files by ratings.dat, movies.dat and users.dat as GroupLens published them."""
    for name, columns in (
        ("ratings", ["user_id", "movie_id", "rating", "timestamp"]),
        ("movies", ["movie_id", "title", "genres"]),
        ("users", ["user_id", "gender", "age", "occupation", "zip"]),
    ):
        place = folder / f"{name}.parquet"
        rows = pl.read_parquet(place).select(pl.col(columns).cast(pl.String).fill_null("")).rows()
        text = "".join("::".join(row) + "\n" for row in rows)
        (folder / f"{name}.dat").write_bytes(text.encode("latin-1" if name == "movies" else "utf-8"))
        place.unlink()


def test_the_published_files_and_parquet_are_the_same_events(slices):
    config = EXAMPLES / "ml_1m" / "attune.toml"
    parquet = read_all(config)
    as_published(slices)
    published = read_all(config)
    assert [b.files[0].suffix for b in published.values()] == [".dat", ".dat", ".parquet", ".dat"]
    assert_frame_equal(parquet["ratings"].frame, published["ratings"].frame)  # ids and all
    assert parquet["ratings"].rejected.height == published["ratings"].rejected.height
    assert_frame_equal(parquet["movies"].frame, published["movies"].frame)
    as_text = [parquet["members"].frame.cast(pl.String), published["members"].frame.cast(pl.String)]
    assert_frame_equal(*as_text)


def test_a_second_ingestion_from_the_other_format_adds_nothing(slices, tmp_path, monkeypatch, capsys):
    arguments = ["--config", str(EXAMPLES / "ml_1m" / "attune.toml"), "--workspace", str(tmp_path / "w")]
    assert attune(monkeypatch, "ingest", *arguments) == 0
    ratings = slices / "ratings.parquet"
    users, movies = (pl.read_parquet(slices / f"{name}.parquet") for name in ("users", "movies"))
    as_published(slices)
    users.write_parquet(slices / "users.parquet")
    movies.write_parquet(slices / "movies.parquet")
    assert not ratings.exists()
    capsys.readouterr()
    assert attune(monkeypatch, "ingest", *arguments, "--json") == 0
    counts = json.loads(capsys.readouterr().out)["ingest"]
    assert (counts["accepted"], counts["duplicates"]) == (0, RATINGS)
    assert (counts["items"], counts["users"]) == (0, 0)
