"""Batch list = API list = evaluated list."""

import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from fastapi.testclient import TestClient

from profiles.schema import EVENTS
from recsys.evaluation import context
from recsys.metrics import measure
from serving.app import create_app
from serving.engine import EVERYTHING, Engine
from serving.pipeline import Pipeline
from serving.release import publish
from serving.workspace import Workspace

Variant = Callable[[str], Workspace]


def copy_of(workspace: Workspace, to: Path) -> Workspace:
    """Return a private copy with the same settings."""
    folder = to / "workspace"
    shutil.copytree(workspace.folder, folder)
    return Workspace(folder, folder / "attune.toml")


def asked(client: TestClient, user: str, k: int, **more: Any) -> list[dict[str, Any]]:
    """Return the items of POST /v1/recommendations."""
    answer = client.post("/v1/recommendations", json={"user_id": user, "k": k, **more})
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    assert [item["rank"] for item in items] == list(range(1, len(items) + 1))
    return items


@pytest.mark.parametrize("name", ["fitted", "all", "short memory", "purchases mask"])
def test_batch_is_api(variant: Variant, name: str) -> None:
    """Every user, every item, in order; scores and contributions as well."""
    workspace = variant(name)
    as_of, k = workspace.snapshot.as_of, workspace.settings.recommend.k
    batch = workspace.read("recommendations").partition_by("user_id", as_dict=True)
    parts = workspace.read("contributions")
    users = workspace.snapshot.frame("user_profiles")["user_id"]
    assert {user for (user,) in batch} == set(users)
    assert len(users) == 300
    if name != "all":
        users = users.gather_every(6)
    told: list[tuple[str, str, str, int, float, float]] = []
    with TestClient(create_app(workspace, clock=lambda: as_of)) as client:
        for user in users:
            items = asked(client, user, k)
            own = batch[(user,)].sort("rank")
            assert [item["item_id"] for item in items] == own["item_id"].to_list(), user
            np.testing.assert_allclose([i["score"] for i in items], own["score"], atol=1e-6)
            told += [
                (user, i["item_id"], s["source"], s["rank"], s["score"], s["contribution"])
                for i in items
                for s in i["sources"]
            ]
    key = ["user_id", "item_id", "source"]
    columns = [*key, "rank", "score", "part"]
    live = pl.DataFrame(told, schema=columns, orient="row").sort(key)
    parts = parts.filter(pl.col("user_id").is_in(users.implode())).sort(key)
    assert live.select(*key, "rank").rows() == parts.select(*key, "source_rank").rows()
    np.testing.assert_allclose(live["score"], parts["source_score"], rtol=2e-5)
    np.testing.assert_allclose(live["part"], parts["contribution"], atol=1e-6)


@pytest.mark.parametrize("name", ["all", "shallow", "short memory", "repeats"])
def test_evaluated_is_api(variant: Variant, name: str, tmp_path: Path) -> None:
    """The evaluation's own release, served at the cut over the whole log, gives the evaluated lists."""
    workspace = copy_of(variant(name), tmp_path)
    pipeline = Pipeline(workspace)
    (trial,) = pipeline.tests
    weights = workspace.state()["evaluate"]["weights"]
    evaluated = pipeline._judged(trial, weights)["blend"]
    release = pipeline.release(trial.recommenders, weights, {"as_of": trial.split.at.isoformat()})
    workspace.releases.activate(publish(release, workspace.releases.root))
    k = max(workspace.settings.evaluation.ks)
    assert len(trial.queries) > 50
    assert workspace.snapshot.as_of > trial.split.at

    told = []
    with TestClient(create_app(workspace, clock=lambda: trial.split.at)) as client:
        for row, user in enumerate(trial.queries.ids):
            items = asked(client, user, k)
            wanted = release.catalogue.items.take(evaluated.rows[row][: evaluated.lengths[row]]).to_list()
            assert [item["item_id"] for item in items] == wanted, user
            scores = evaluated.scores[row][: evaluated.lengths[row]]
            np.testing.assert_allclose([i["score"] for i in items], scores, atol=1e-6)
            told += [(user, i["item_id"], i["rank"], i["score"], "blend") for i in items]

    # And what is measured on the served lists is what evaluation.json says of the blend.
    served = pl.DataFrame(told, schema=["user_id", "item_id", "rank", "score", "source"], orient="row")
    known = context(trial.split, release.catalogue)
    found = measure(served, trial.split.truth, ["ndcg", "recall", "mrr"], [5, 10, 20], known)
    kept = workspace.read("metrics").filter(pl.col("source") == "blend", pl.col("user_id").is_not_null())
    both = found.join(kept, on=["source", "metric", "k", "user_id"])
    assert len(both) == len(found) == 3 * 3 * len(trial.queries)
    assert (both["value"] - both["value_right"]).abs().max() < 1e-12


def test_every_source_is_measured_as_deep_as_the_lists(variant: Variant) -> None:
    """A blend that looks 4 deep must not make recall@20 of a source one of 4 items."""
    shallow, deep = variant("shallow"), variant("all")
    for name in ("popularity", "ease", "item_knn"):
        own = [
            w.read("metrics").filter(pl.col("source") == name, pl.col("user_id").is_not_null())
            for w in (shallow, deep)
        ]
        assert own[0].equals(own[1])


def test_the_future_is_not_read(workspace: Workspace) -> None:
    """Events later than the clock change nothing, neither lists nor profiles nor degraded."""
    as_of = workspace.snapshot.as_of
    batch = workspace.read("recommendations")
    users = batch["user_id"].unique().sort().head(40)
    later = [
        {
            "event_id": f"later {n} {user}",
            "user_id": user,
            "item_id": item,
            "event_type": "purchase",
            "timestamp": as_of + timedelta(microseconds=1 + n),
            "text": "velvet cushion for the kitchen" if n == 0 else None,
        }
        for user in [*users, "born later"]
        for n, item in enumerate(batch.filter(user_id=users[0])["item_id"].head(5))
    ]
    engine = Engine(workspace, workspace.release)
    before = {user: engine.profile(user, as_of)["profile"] for user in users.head(5)}
    workspace.store.append(EVENTS.conform(pl.DataFrame(later)))
    for user in users:
        answer = engine.recommend(engine.past(user, as_of), 20)
        own = batch.filter(user_id=user).sort("rank")["item_id"].to_list()
        assert [item["item_id"] for item in answer["items"]] == own
        assert answer["watermark"] == 12_000 + len(later)
    assert before == {user: engine.profile(user, as_of)["profile"] for user in users.head(5)}
    assert not engine.profile("born later", as_of)["known"]
    assert engine.recommend(engine.past("born later", as_of), 5)["degraded"] == ["cold_user"]
    # One microsecond on, the first of them counts.
    now = as_of + timedelta(microseconds=1)
    bought = later[0]["item_id"]
    seen = engine.recommend(engine.past(users[0], now), 20)
    assert bought not in [item["item_id"] for item in seen["items"]]


def as_request(events: pl.DataFrame) -> list[dict[str, Any]]:
    """Return events as a client would send them."""
    rows = events.drop("event_id", "user_id", "properties").to_dicts()
    return [
        {n: v.isoformat() if isinstance(v, datetime) else v for n, v in row.items() if v is not None}
        for row in rows
    ]


def test_a_history_given_is_a_history_kept(variant: Variant) -> None:
    """A user's events in the request give what their id gives, ranks and items like theirs too."""
    workspace = variant("all")
    as_of = workspace.snapshot.as_of
    users = workspace.snapshot.frame("user_profiles")["user_id"].gather_every(10)
    items = workspace.snapshot.frame("items")["item_id"].head(60).to_list()
    with TestClient(create_app(workspace, clock=lambda: as_of)) as client:
        for user in users:
            events = as_request(workspace.store.tail(user, EVERYTHING, as_of))
            if len(events) > 1000:
                continue
            for path, more in (("recommendations", {"k": 30}), ("rank", {"item_ids": items})):
                by_id = client.post(f"/v1/{path}", json={"user_id": user, **more}).json()
                given = client.post(f"/v1/{path}", json={"events": events, **more})
                assert given.status_code == 200, given.text
                assert given.json()["items"] == by_id["items"], user
                assert given.json().get("degraded") == by_id.get("degraded")
        unordered = as_request(workspace.store.tail(users[0], EVERYTHING, as_of))[::-1]
        times = [event["timestamp"] for event in unordered]
        assert len(set(times)) == len(times)
        shuffled = client.post("/v1/recommendations", json={"events": unordered, "k": 30}).json()["items"]
        assert (
            shuffled
            == client.post("/v1/recommendations", json={"user_id": users[0], "k": 30}).json()["items"]
        )


def test_rank_alone_is_rank_in_a_batch(variant: Variant) -> None:
    workspace = variant("all")
    as_of, engine = workspace.snapshot.as_of, Engine(workspace, workspace.release)
    users = workspace.snapshot.frame("user_profiles")["user_id"].to_list()
    chosen = np.sort(np.random.default_rng(0).permutation(200)[:70])
    names = engine.release.catalogue.items.take(chosen).to_list()
    together = engine.release.order(engine.queries([engine.past(u, as_of) for u in users]), chosen)
    for row, user in list(enumerate(users))[::4]:
        n = together.ranked.lengths[row]
        wanted = engine.release.catalogue.items.take(together.ranked.rows[row][:n]).to_list()
        assert n == 70
        answer = engine.rank(engine.past(user, as_of), names)["items"]
        assert [item["item_id"] for item in answer] == wanted
        np.testing.assert_allclose([i["score"] for i in answer], together.ranked.scores[row][:n], atol=1e-6)


def test_the_order_does_not_depend_on_how_the_items_came(variant: Variant) -> None:
    """Equal scores go to the lower item row, not to the item named first."""
    workspace = variant("all")
    as_of, engine = workspace.snapshot.as_of, Engine(workspace, workspace.release)
    random = np.random.default_rng(1)
    names = engine.release.catalogue.items.ids.to_list()
    counts = engine.release.recommenders["popularity"].scores
    assert len(np.unique(counts)) < len(counts)  # there are ties
    for user in ["nobody", *workspace.snapshot.frame("user_profiles")["user_id"].head(20)]:
        past = engine.past(user, as_of)
        chosen = random.permutation(names).tolist()
        first = engine.rank(past, chosen)["items"]
        assert engine.rank(past, random.permutation(chosen).tolist())["items"] == first


def test_all_at_once_is_one_by_one(variant: Variant) -> None:
    """The door of notebooks gives the batch lists as well."""
    workspace = variant("all")
    users = workspace.snapshot.frame("user_profiles")["user_id"].to_list()
    found = Workspace(workspace.folder).recommend(users, 20, workspace.snapshot.as_of).to_polars()
    kept = workspace.read("recommendations")
    assert found.select("user_id", "item_id", "rank").equals(kept.select("user_id", "item_id", "rank"))
    titles = dict(workspace.snapshot.frame("items").select("item_id", "title").iter_rows())
    assert found["title"].to_list() == [titles[item] for item in found["item_id"]]


def test_a_live_profile_is_the_profile_of_the_batch(variant: Variant) -> None:
    workspace = variant("fitted")
    engine, as_of = Engine(workspace, workspace.release), workspace.snapshot.as_of
    for row in workspace.snapshot.frame("user_profiles").gather_every(15).iter_rows(named=True):
        user = row.pop("user_id")
        found = engine.profile(user, as_of)
        assert found["known"]
        assert list(found["profile"]) == list(row)
        for name, value in row.items():
            if name.endswith("_affinity"):
                live = {a["value"]: a["share"] for a in found["profile"][name]}
                assert live == pytest.approx({a["value"]: a["share"] for a in value}), (user, name)
            else:
                assert found["profile"][name] == value, (user, name)


def test_a_release_reads_words_its_own_way(variant: Variant, tmp_path: Path) -> None:
    """Settings changed after the release was made do not change what it makes of a user's words."""
    workspace = copy_of(variant("fitted"), tmp_path)
    config = workspace.folder / "attune.toml"
    config.write_text(config.read_text() + "[text]\nmax_tokens = 4\nhalf_life_days = 1\n")
    changed = Workspace(workspace.folder, config)
    texts = changed.snapshot.frame("texts").filter(owner="user")
    as_of, batch = changed.snapshot.as_of, changed.read("recommendations")
    engine = Engine(changed, changed.release)
    for user in texts["id"].unique().sort().head(50):
        answer = engine.recommend(engine.past(user, as_of), 20)["items"]
        own = batch.filter(user_id=user).sort("rank")["item_id"].to_list()
        assert [item["item_id"] for item in answer] == own


def test_batch_is_api_after_a_rollback(variant: Variant, tmp_path: Path) -> None:
    """The batch asks the active release its own way, not the way the newest settings say."""
    workspace = copy_of(variant("fitted"), tmp_path)
    before = workspace.read("recommendations")
    first = workspace.releases.active()
    config = workspace.folder / "attune.toml"
    text = config.read_text().replace("purchase = 4", "purchase = 0")
    config.write_text(text + "repeat_consumption = true\n[recommend]\nhistory_limit = 2\n")
    changed = Workspace(workspace.folder, config)
    Pipeline(changed).run()
    assert changed.releases.active() != first
    assert not changed.read("recommendations").equals(before)
    assert changed.releases.rollback() == first
    Pipeline(changed).run(("recommend",))
    again = changed.read("recommendations")
    assert again.drop("score").equals(before.drop("score"))
    np.testing.assert_allclose(again["score"], before["score"], atol=1e-6)
