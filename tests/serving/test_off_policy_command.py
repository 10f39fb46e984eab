"""Exploring answers, logged with propensities, and the releases judged by them."""

import json
import random
from datetime import timedelta

import polars as pl
import pytest
from fastapi.testclient import TestClient

from profiles.schema import EVENTS, ContractError
from serving.app import create_app
from serving.cli import app
from serving.engine import Engine, exposures
from serving.off_policy import earned, judged, logged
from serving.progress import Progress
from serving.workspace import Workspace

USERS = [f"u{n:04}" for n in range(1, 41)]


@pytest.fixture
def exploring(workspace, monkeypatch):
    """Return a workspace whose settings explore, its draws the same in each run.

    An answer is drawn from its id, and an interval of 95 % holds the truth for 19 of 20 sets of ids.
    """
    ids = random.Random(0)
    monkeypatch.setattr("serving.engine.secrets.token_hex", lambda n: ids.randbytes(n).hex())
    config = workspace.folder / "attune.toml"
    config.write_text(config.read_text() + "\n[explore]\nepsilon = 0.6\ntail = 2\npool = 5\n")
    opened = Workspace(workspace.folder, config)
    opened.remember()
    return opened


@pytest.fixture
def shown(exploring):
    """Return it after each user was shown three lists of four, at the moment of the snapshot."""
    engine, at = Engine(exploring, exploring.release), exploring.snapshot.as_of
    for user in USERS:
        for _ in range(3):
            answer = engine.recommend(engine.past(user, at), 4)
            exploring.exposures.append_exposures(exposures(answer, user, at))
    return exploring


def test_answers_are_explored_in_their_tail_and_say_so(exploring):
    at = exploring.snapshot.as_of
    with TestClient(create_app(exploring, clock=lambda: at)) as client:
        plain = Workspace(exploring.folder).release.recommend
        engine = Engine(exploring, exploring.release)
        drawn = 0
        for user in USERS[:12]:
            items = client.post("/v1/recommendations", json={"user_id": user, "k": 4}).json()["items"]
            best = plain(engine.queries([engine.past(user, at)]), 7)
            names = exploring.release.catalogue.items.take(best.ranked.rows[0])
            assert [i["item_id"] for i in items[:2]] == list(names[:2])
            for place, item in enumerate(items[2:], 2):
                stays = item["item_id"] == names[place]
                assert item["item_id"] in list(names[2:7])
                assert item["propensity"] == pytest.approx(0.4 * stays + 0.6 / 5)
                drawn += not stays
            assert [i["propensity"] for i in items[:2]] == [1.0, 1.0]
        assert drawn
        body = {"user_id": USERS[0], "k": 4, "exclude": [names[0]]}
        words = client.post("/v1/recommendations", json=body).json()
        assert all("propensity" not in item for item in words["items"])
        client.app.state.live.exposures.flush()
    kept = exploring.exposures.exposures()
    assert kept["propensity"].null_count() == 4  # of the answer with an exclusion
    assert kept["propensity"].drop_nulls().is_between(0.12, 1).all()


def test_the_same_answer_is_drawn_from_the_same_id(exploring, monkeypatch):
    monkeypatch.setattr("serving.engine.secrets.token_hex", lambda n: "ab" * n)
    engine = Engine(exploring, exploring.release)
    past = engine.past(USERS[0], exploring.snapshot.as_of)
    assert engine.recommend(past, 4) == engine.recommend(past, 4)


def event(user, item, at, answer=None, kind="purchase"):
    return {"event_id": f"{user}{item}{at}{answer}", "user_id": user, "item_id": item, "event_type": kind,
            "timestamp": at, "recommendation_id": answer}  # fmt: skip


def test_what_followed_an_answer_is_its_reward(shown):
    rows = shown.exposures.exposures()
    at, one = shown.snapshot.as_of, rows.row(0, named=True)
    other = rows.filter(pl.col("user_id") == USERS[1]).row(0, named=True)
    late = rows.filter(pl.col("user_id") == USERS[2]).row(0, named=True)
    shown.store.append(
        EVENTS.conform(
            pl.DataFrame(
                [
                    event(one["user_id"], one["item_id"], at + timedelta(hours=1), one["recommendation_id"]),
                    event(other["user_id"], other["item_id"], at + timedelta(hours=2)),
                    event(late["user_id"], late["item_id"], at + timedelta(hours=30)),
                    event(USERS[3], "no such item", at + timedelta(hours=1)),
                ]
            )
        )
    )
    found = logged(shown)
    assert len(found) == len(rows)
    hits = found.filter(pl.col("reward") > 0)
    assert hits["reward"].to_list() == [1.0, 1.0]
    assert one["recommendation_id"] in hits["answer"].to_list()
    assert set(hits["user_id"]) == {one["user_id"], other["user_id"]}
    assert logged(shown, hours=48)["reward"].sum() == 3
    assert logged(shown, event_types=("view",))["reward"].sum() == 0
    (line,) = earned(found)
    assert (line["answers"], line["explored"]) == (120, 120)
    assert line["reward"] == pytest.approx(2 / 120)


def test_a_release_is_judged_by_the_lists_it_would_have_shown(shown):
    rows = logged(shown)
    release = shown.releases.active()
    # Whatever stands first earns 1, and at the last rank only what the release itself would show.
    engine, at = Engine(shown, shown.release), shown.snapshot.as_of
    best = {u: list(engine.recommendations([u], 4, at)[0]["item_id"]) for u in USERS}
    asked = rows.select("user_id", "item_id", "rank").iter_rows()
    right = [float(rank == 1 or best[user][3] == item) for user, item, rank in asked]
    rows = rows.with_columns(reward=pl.Series(right) * pl.col("rank").is_in([1, 4]))
    found = judged(shown, rows, release, Progress())
    assert all(e.identifiable for e in found.values())
    assert found["snips"].value == pytest.approx(2.0)
    assert found["ips"].low <= 2.0 <= found["ips"].high
    assert found["dr"].low <= 2.0 <= found["dr"].high
    assert (found["snips"].answers, found["snips"].users) == (120, 40)
    silent = rows.with_columns(propensity=pl.lit(None, pl.Float64))
    reasons = {e.reason for e in judged(shown, silent, release, Progress()).values()}
    assert reasons == {"not identifiable: no propensities were logged"}


def test_the_command(shown, workspace, capsys):
    app(["off-policy", "-w", str(shown.folder)], standalone_mode=False)
    told = capsys.readouterr().out.splitlines()
    assert "120 answers earned 0.0000 each as shown; 120 explored" in told[0]
    assert [line.split()[1] for line in told[1:]] == ["snips", "ips", "dr"]
    app(["off-policy", "-w", str(shown.folder), "--json"], standalone_mode=False)
    found = json.loads(capsys.readouterr().out)
    assert found["estimates"][shown.releases.active()]["ips"]["answers"] == 120


def test_nothing_logged_is_said(workspace):
    with pytest.raises(ContractError, match="no answers were logged; `attune serve` logs"):
        logged(workspace)
