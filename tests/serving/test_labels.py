"""Labels of texts as profile columns: from the configuration to what is shown, exported and sliced by."""

import json
import shutil
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from fastapi.testclient import TestClient

from nlp.classifier_config import ClassifierConfig
from nlp.classify import train
from profiles import manifest
from profiles.schema import ContractError
from profiles.simulate import WorldConfig, simulate
from serving import cli
from serving.app import create_app
from serving.doctor import examine
from serving.engine import Engine
from serving.export import export
from serving.labels import profiles
from serving.pipeline import Pipeline
from serving.settings import load
from serving.workspace import Workspace

SETTINGS = """\
events = [{ path = "events.parquet" }]
items = [{ path = "items.parquet" }]
[[labels]]
name = "question"
classifier = "questions"
keep = 2
[text]
enabled = false
[recommenders.popularity]
[evaluation]
slices = ["question"]
"""
ASKED = {
    "order": "where is my order",
    "size": "which size is right",
    "late": "my order is late, so late that I no longer want any of it",
}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop where every other user asked something, twice; everything has run."""
    folder = tmp_path_factory.mktemp("labelled")
    shop = simulate(WorldConfig(users=60, items=40, events=1500, days=40))
    users = shop.events["user_id"].unique().sort()
    kind = {user: list(ASKED)[n % 3] for n, user in enumerate(users) if n % 2}
    nth = pl.int_range(pl.len()).over("user_id", order_by="timestamp")
    asks = pl.col("user_id").replace_strict(kind, default=None).replace_strict(ASKED, default=None)
    shop.events.with_columns(text=pl.when(nth < 2).then(asks)).write_parquet(folder / "events.parquet")
    shop.items.write_parquet(folder / "items.parquet")
    train(list(ASKED.values()), list(ASKED), ClassifierConfig(method="tfidf"), folder / "questions")
    (folder / "attune.toml").write_text(SETTINGS)
    Pipeline(Workspace(folder / "workspace", folder / "attune.toml")).run()
    return folder / "attune.toml"


@pytest.fixture
def workspace(config: Path) -> Workspace:
    return Workspace(config.parent / "workspace", config)


@pytest.fixture
def attune(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, workspace: Workspace
) -> Callable[..., str]:
    """Run a command on the workspace; returns what it printed."""

    def run(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["attune", *arguments, "--workspace", str(workspace.folder)])
        monkeypatch.setenv("COLUMNS", "200")
        capsys.readouterr()
        with pytest.raises(SystemExit):
            cli.main()
        told = capsys.readouterr()
        assert "Traceback" not in told.err
        return told.out + told.err

    return run


def test_profiles_have_the_columns_and_a_live_user_the_same(workspace: Workspace) -> None:
    users = profiles(workspace, "user")
    assert users.height == workspace.snapshot.frame("user_profiles").height
    assert users.columns[-3:] == ["question", "question_probability", "question_shares"]
    assert set(users["question"].value_counts().rows()) >= {("order", 10), ("size", 10), ("late", 10)}
    engine = Engine(workspace, workspace.release)
    for row in users.head(6).iter_rows(named=True):
        live = engine.profile(row["user_id"], workspace.snapshot.as_of)["profile"]
        assert {name: live[name] for name in users.columns[-3:]} == {n: row[n] for n in users.columns[-3:]}
        assert (row["question"] is None) == (row["question_shares"] == [])
    items = profiles(workspace, "item")
    assert items.columns[-3:] == users.columns[-3:]
    assert items["item_id"].equals(workspace.snapshot.frame("item_profiles")["item_id"])


def test_a_user_is_shown_with_the_texts_behind(workspace: Workspace, attune: Callable[..., str]) -> None:
    user = profiles(workspace, "user").filter(question="late")["user_id"][0]
    told = attune("show", "user", user)
    line = next(line for line in told.splitlines() if " question " in line)
    assert " late " in line
    assert "“my order is late, so late that I no longer want…”" in line
    assert json.loads(attune("show", "user", user, "--json"))["profile"]["question"] == "late"
    item = profiles(workspace, "item").filter(pl.col("question").is_not_null())["item_id"].first()
    assert item is None or "question" in attune("show", "item", str(item))


def test_the_api_knows_a_text_that_was_just_sent(config: Path, tmp_path: Path) -> None:
    """The classifier reads it then; nothing is built anew."""
    copy = tmp_path / "workspace"
    shutil.copytree(config.parent / "workspace", copy)
    now = datetime.now(UTC).isoformat()
    event = {"user_id": "new", "event_type": "ask", "text": "is this size my size?", "timestamp": now}
    with TestClient(create_app(Workspace(copy, config))) as client:
        assert client.post("/v1/events", json={"events": [event]}).status_code < 300
        found = client.get("/v1/users/new/profile").json()["profile"]
    assert found["question"] == "size"
    assert found["question_shares"][0] == {"value": "size", "share": found["question_probability"]}
    assert sum(share["share"] for share in found["question_shares"]) < 1, "two of three are kept"


def test_export_and_slices_know_them(workspace: Workspace, tmp_path: Path) -> None:
    export(workspace, "users", tmp_path / "users.parquet")
    assert pl.read_parquet(tmp_path / "users.parquet").equals(profiles(workspace, "user"))
    export(workspace, "users", tmp_path / "users.csv")
    found = json.loads((workspace.folder / "evaluation.json").read_text())
    assert {row["slice"] for row in found["slices"] if row["by"] == "question"} & set(ASKED)


def test_another_classifier_is_a_new_build_and_the_same_is_none(config: Path, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "workspace", config)
    first = Pipeline(workspace)
    first.run(("ingest", "build"))
    again = Pipeline(workspace)
    again.run(("build",))
    assert again.ran == {"build": False}
    (folder,) = workspace.state()["build"]["labels"]
    assert (
        manifest.verify(workspace.folder / folder)["classifier"]
        == manifest.read(config.parent / "questions")["seal"]
    )
    (workspace.folder / folder / "user_profiles.parquet").write_bytes(b"")
    again = Pipeline(workspace)
    again.run(("build",))
    assert again.ran == {"build": True}
    assert profiles(workspace, "user")["question"].n_unique() == 4
    train(["where is it", "which one"], ["a", "b"], ClassifierConfig(method="tfidf"), tmp_path / "other")
    (tmp_path / "attune.toml").write_text(
        SETTINGS.replace('"questions"', '"other"').replace('= "events', f'= "{config.parent}/events').replace(
            '= "items.', f'= "{config.parent}/items.')
    )  # fmt: skip
    other = Workspace(workspace.folder, tmp_path / "attune.toml")
    again = Pipeline(other)
    again.run(("build",))
    assert again.ran == {"build": True}
    assert set(profiles(other, "user")["question"].drop_nulls()) <= {"a", "b"}


def test_a_live_text_that_is_new_needs_the_classifier_as_it_was(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(workspace, workspace.release)
    said = engine.past("nobody", workspace.snapshot.as_of).events
    event = {"event_id": "e", "user_id": "nobody", "item_id": None, "event_type": "ask", "value": None}
    event |= {"timestamp": workspace.snapshot.as_of, "text": "is this size my size?"}
    told = pl.concat([said, pl.DataFrame([event], schema_overrides=said.schema)], how="diagonal_relaxed")
    monkeypatch.setattr(workspace.store, "tail", lambda *_: told)
    assert engine.profile("nobody")["profile"]["question"] == "size"
    assert engine.evidence("nobody")["question"]["text"].to_list() == ["is this size my size?"]


def _broken(config: Path, tmp_path: Path, **changes: Any) -> Workspace:
    text = SETTINGS.replace('= "events', f'= "{config.parent}/events').replace(
        '= "items.', f'= "{config.parent}/items.'
    )
    for old, new in changes.values():
        text = text.replace(old, new)
    (tmp_path / "attune.toml").write_text(text)
    return Workspace(tmp_path / "workspace", tmp_path / "attune.toml")


def test_mistakes_are_told_with_their_line(config: Path, tmp_path: Path) -> None:
    absent = _broken(config, tmp_path)
    Pipeline(absent).run(("ingest",))
    with pytest.raises(ContractError, match=r"attune\.toml, line 5: .*questions: there is no manifest"):
        Pipeline(absent).run(("build",))
    assert any(
        level == "FAIL" and "labels: " in text
        for _, level, text in examine(tmp_path / "none", tmp_path / "attune.toml")
    )
    train(["a b", "c d"], ["x", "y"], ClassifierConfig(method="tfidf"), tmp_path / "questions")
    (tmp_path / "questions" / "member-0" / "words.json").write_text("[]")
    with pytest.raises(ContractError, match=r"line 5: .*words\.json: its content is not what was published"):
        Pipeline(absent).run(("build",))
    clash = _broken(config, tmp_path, a=('name = "question"', 'name = "active_days"'),
                    b=('"questions"', f'"{config.parent / "questions"}"'))  # fmt: skip
    with pytest.raises(ContractError, match=r"line 3: \[\[labels\]\] 'active_days': user profiles have"):
        Pipeline(clash).run(("build",))
    assert "build" not in clash.state()


@pytest.mark.parametrize(
    ("old", "new", "line", "what"),
    [
        ('name = "question"', 'name = "Question Type"', 4, r"name: string should match"),
        ("keep = 2", 'of = "everyone"', 6, r"of: input should be 'users', 'items' or 'both'"),
        ("keep = 2", 'half_life = 3', 6, r"half_life: unknown key; did you mean 'half_life_days'"),
        ('classifier = "questions"', "", 3, r"classifier: missing"),
        (
            "[text]",
            '[[labels]]\nname = "question_probability"\nclassifier = "x"\n[text]',
            8,
            r"\[\[labels\]\] 'question' makes a column 'question_probability' already",
        ),
    ],
)  # fmt: skip
def test_settings_are_checked(tmp_path: Path, old: str, new: str, line: int, what: str) -> None:
    (tmp_path / "attune.toml").write_text(SETTINGS.replace(old, new))
    with pytest.raises(ContractError, match=rf"line {line}: .*{what}"):
        load(tmp_path / "attune.toml")
