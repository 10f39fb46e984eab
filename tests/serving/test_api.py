"""The contract of the HTTP API, call by call."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import polars as pl
import pytest
from fastapi.testclient import TestClient

from serving.app import Live, create_app
from serving.blend import WORDS
from serving.engine import Engine
from serving.pipeline import Pipeline
from serving.release import Release, publish
from serving.requests import BODY_LIMIT
from serving.workspace import Workspace

ODD = [
    "it's",
    'say "hi"',
    "a/b",
    "a//b/",
    "line\nbreak",
    "crème brûlée 🍮",
    "100%",
    "what?",
    "#1",
    "a&b=c;d",
    "a+b c",
    "profile",
    "x/recommendations",
    "../..//etc",
    "'; drop table events; --",
    "{id}",
    "\\",
    "u" * 300,
    "日本語",
    "\u200b",
    "\x7f",
]


@pytest.fixture(scope="module")
def shop(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A copy of the finished workspace for the tests of this file; each uses users of its own."""
    import shutil

    folder = tmp_path_factory.mktemp("shop") / "workspace"
    shutil.copytree(finished, folder)
    return Workspace(folder, folder / "attune.toml")


@pytest.fixture(scope="module")
def client(shop: Workspace) -> Iterator[TestClient]:
    """The API over the shop, now."""
    with TestClient(create_app(shop), raise_server_exceptions=False) as client:
        yield client


def problem(response: Any, status: int, code: str | None = None) -> dict[str, Any]:
    """Check that an answer is a problem and return it."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = response.json()
    assert found["status"] == status
    assert set(found) >= {"type", "title", "status", "code", "detail"}
    assert found["type"] == f"/problems/{found['code']}"
    assert code is None or found["code"] == code
    assert "Traceback" not in response.text
    assert ("retry-after" in response.headers) == (status in (429, 503))
    return found


def ok(response: Any) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    found: dict[str, Any] = response.json()
    return found


def recommend(client: TestClient, **asked: Any) -> dict[str, Any]:
    return ok(client.post("/v1/recommendations", json=asked))


def listed(answer: dict[str, Any]) -> list[str]:
    return [item["item_id"] for item in answer["items"]]


def post(client: TestClient, *events: dict[str, Any], **headers: str) -> dict[str, Any]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return ok(client.post("/v1/events", json=list(events), headers=named))


def view(user: str, item: str | None = "i0001", **more: Any) -> dict[str, Any]:
    return {"user_id": user, "item_id": item, "event_type": "view", **more}


# Operations


def test_livez_and_readyz(client: TestClient, shop: Workspace) -> None:
    assert ok(client.get("/livez")) == {"status": "ok"}
    assert ok(client.get("/readyz")) == {
        "status": "ready",
        "release": shop.releases.active(),
        "watermark": shop.store.watermark(),
        "trouble": None,
        "exposures_lost": 0,
    }


def test_before_the_first_release(workspace: Workspace) -> None:
    """Alive, not ready; events are taken all the same."""
    (workspace.folder / "releases" / "active.json").unlink()
    with TestClient(create_app(workspace)) as client:
        assert ok(client.get("/livez")) == {"status": "ok"}
        assert problem(client.get("/readyz"), 503, "not_ready")["detail"] == "no release is active"
        for call in (
            client.post("/v1/recommendations", json={"user_id": "u"}),
            client.get("/v1/users/u/recommendations"),
            client.get("/v1/users/u/profile"),
            client.post("/v1/rank", json={"user_id": "u", "item_ids": ["i"]}),
            client.post("/v1/similar", json={"item_id": "i"}),
        ):
            assert problem(call, 503, "no_release")["detail"] == "no release is active"
        assert post(client, view("early"))["accepted"] == 1
    assert not len(workspace.exposures.exposures())


# Recommendations


def test_the_shape_of_an_answer(client: TestClient, shop: Workspace) -> None:
    answer = recommend(client, user_id="u0001", k=7)
    assert set(answer) == {"recommendation_id", "release", "watermark", "degraded", "items", "cursor"}
    assert len(answer["recommendation_id"]) == 32
    assert answer["release"] == shop.releases.active()
    assert answer["watermark"] == shop.store.watermark()
    assert answer["degraded"] == []
    assert answer["cursor"] is None
    assert [item["rank"] for item in answer["items"]] == [1, 2, 3, 4, 5, 6, 7]
    titles = dict(shop.release.catalogue.attributes.select("item_id", "title").iter_rows())
    for item in answer["items"]:
        assert set(item) == {"item_id", "rank", "score", "sources", "reasons", "attributes"}
        assert item["reasons"] == []
        assert item["attributes"]["title"] == titles[item["item_id"]]
        assert item["sources"]
        for source in item["sources"]:
            assert set(source) == {"source", "rank", "score", "contribution"}
        assert sum(s["contribution"] for s in item["sources"]) == pytest.approx(item["score"], abs=1e-6)
    scores = [item["score"] for item in answer["items"]]
    assert scores == sorted(scores, reverse=True)
    again = recommend(client, user_id="u0001", k=7)
    assert again["items"] == answer["items"]
    assert again["recommendation_id"] != answer["recommendation_id"]


def test_the_short_form_is_the_long_form(client: TestClient) -> None:
    long = recommend(client, user_id="u0002", k=4, explain="reasons")
    short = ok(client.get("/v1/users/u0002/recommendations?k=4&explain=reasons"))
    assert short["items"] == long["items"]
    assert len(ok(client.get("/v1/users/u0002/recommendations"))["items"]) == 10
    for query in ("k=0", "k=501", "k=ten", "k=1.5", "explain=full"):
        problem(client.get(f"/v1/users/u0002/recommendations?{query}"), 422)


def test_a_k_above_the_catalogue_gives_what_there_is(client: TestClient, shop: Workspace) -> None:
    user = "u0003"
    own = shop.store.tail(user, 10_000, datetime.now(UTC))["item_id"].drop_nulls().unique()
    answer = recommend(client, user_id=user, k=500)
    assert set(listed(answer)) == set(shop.release.catalogue.items.ids) - set(own)
    assert len(listed(answer)) == len(set(listed(answer))) == 200 - len(own)


NOT_YET = {
    "blend": "default",
    "filter": "price < 20",
    "boosts": [],
    "pins": [],
    "quotas": {},
    "diversity": 0.5,
    "explore": None,
    "as_of": "2024-01-01T00:00:00Z",
}


@pytest.mark.parametrize("field", sorted(NOT_YET))
def test_what_this_version_lacks_is_said(client: TestClient, field: str) -> None:
    """Even null: a field that is silently ignored would be a lie."""
    answer = client.post("/v1/recommendations", json={"user_id": "u", field: NOT_YET[field]})
    found = problem(answer, 422, "not_supported")
    assert found["fields"] == [field]
    assert field in found["detail"]


def test_all_that_is_lacking_is_named_at_once(client: TestClient) -> None:
    answer = client.post("/v1/recommendations", json={"user_id": "u", **NOT_YET, "explain": "full"})
    assert set(problem(answer, 422, "not_supported")["fields"]) == {*NOT_YET, "explain=full"}
    answer = client.post("/v1/recommendations", json={"user_id": "u", "explain": "full"})
    assert problem(answer, 422, "not_supported")["fields"] == ["explain=full"]
    answer = client.post("/v1/similar", json={"user_id": "u", "k": 3})
    assert problem(answer, 422, "not_supported")["fields"] == ["user_id"]


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("recommendations", {}, ""),
        ("recommendations", {"user_id": "u", "events": []}, ""),
        ("recommendations", {"user_id": ""}, "user_id"),
        ("recommendations", {"user_id": 3}, "user_id"),
        ("recommendations", {"user_id": "u" * 1025}, "user_id"),
        ("recommendations", {"user_id": "u", "k": 0}, "k"),
        ("recommendations", {"user_id": "u", "k": 501}, "k"),
        ("recommendations", {"user_id": "u", "k": -1}, "k"),
        ("recommendations", {"user_id": "u", "k": 2.5}, "k"),
        ("recommendations", {"user_id": "u", "k": None}, "k"),
        ("recommendations", {"user_id": "u", "explain": "all"}, "explain"),
        ("recommendations", {"user_id": "u", "exclude": "i0001"}, "exclude"),
        ("recommendations", {"user_id": "u", "exclude": [1]}, "exclude.0"),
        ("recommendations", {"user_id": "u", "query_text": "x" * 10_001}, "query_text"),
        ("recommendations", {"user_id": "u", "limit": 3}, "limit"),
        ("recommendations", {"user_id": "u", "cursor": "x"}, "cursor"),
        ("recommendations", {"events": [{}]}, "events.0.event_type"),
        ("recommendations", {"events": [{"event_type": "view", "nope": 1}]}, "events.0.nope"),
        (
            "recommendations",
            {"events": [{"event_type": "v", "timestamp": "1970-01-01"}]},
            "events.0.timestamp",
        ),
        ("recommendations", {"events": [{"event_type": "view"}] * 1001}, "events"),
        ("rank", {"item_ids": ["i"]}, ""),
        ("rank", {"user_id": "u"}, "item_ids"),
        ("rank", {"user_id": "u", "item_ids": []}, "item_ids"),
        ("rank", {"user_id": "u", "item_ids": ["i"] * 1001}, "item_ids"),
        ("rank", {"user_id": "u", "item_ids": ["i"], "k": 3}, "k"),
        ("similar", {}, "item_id"),
        ("similar", {"item_id": "i0001", "k": 0}, "k"),
        ("similar", {"item_id": "i0001", "k": 501}, "k"),
        ("similar", {"item_id": "i0001", "explain": "full"}, "explain"),
    ],
)
def test_a_body_that_means_nothing(client: TestClient, path: str, body: Any, field: str) -> None:
    found = problem(client.post(f"/v1/{path}", json=body), 422, "invalid")
    assert [error["field"] for error in found["errors"]] == [field]


def ranks(answer: dict[str, Any], without: tuple[str, ...] = ()) -> dict[str, list[str]]:
    """Return each source's items in its own order."""
    found: dict[str, list[tuple[int, str]]] = {}
    for item in answer["items"]:
        for source in item["sources"]:
            found.setdefault(source["source"], []).append((source["rank"], item["item_id"]))
    return {name: [i for _, i in sorted(own) if i not in without] for name, own in found.items()}


def test_excluded_items_stay_out(client: TestClient, shop: Workspace) -> None:
    """Every source lists what it would list, those items left out, so that the list stays full."""
    whole = recommend(client, user_id="u0004", k=200)
    out = tuple(listed(whole)[:10])
    answer = recommend(client, user_id="u0004", k=200, exclude=[*out, "never heard of"])
    assert set(listed(answer)) == set(listed(whole)) - set(out)
    assert ranks(answer) == ranks(whole, without=out)
    for item in answer["items"]:
        for source in item["sources"]:
            if not source["source"].startswith("fallback:"):
                assert ranks(answer)[source["source"]].index(item["item_id"]) == source["rank"] - 1
    assert len(listed(recommend(client, user_id="u0004", k=20, exclude=list(out)))) == 20
    everything = shop.release.catalogue.items.ids.to_list()
    assert listed(recommend(client, user_id="u0004", exclude=everything)) == []
    assert listed(recommend(client, user_id="cold", exclude=everything[1:])) == everything[:1]


def test_a_user_nobody_knows_gets_a_full_list(client: TestClient, shop: Workspace) -> None:
    answer = recommend(client, user_id="nobody at all", k=20)
    assert answer["degraded"] == ["cold_user"]
    # Of the sources that know nobody: the blend's own where it has one, else the fallback.
    source = next((name for name in ("recent", "popularity") if name in shop.release.weights), "popularity")
    counts = shop.release.recommenders[source].scores
    best = np.lexsort((np.arange(200), -counts))[:20]
    assert listed(answer) == shop.release.catalogue.items.take(best).to_list()
    assert recommend(client, events=[], k=20)["items"] == answer["items"]


def test_a_user_of_whom_only_words_are_known(client: TestClient, shop: Workspace) -> None:
    """A text alone moves the list, and is not cold."""
    said = {"user_id": "only wrote", "event_type": "query", "text": "velvet cushion in a dune colour"}
    assert post(client, said)["accepted"] == 1
    answer = recommend(client, user_id="only wrote", k=10)
    assert answer["degraded"] == []
    assert {s["source"] for item in answer["items"] for s in item["sources"]} >= {WORDS}
    titles = [item["attributes"]["title"].lower() for item in answer["items"][:3]]
    assert all("cushion" in title for title in titles[:2])
    given = recommend(client, events=[{k: v for k, v in said.items() if k != "user_id"}], k=10)
    assert given["items"] == answer["items"]


def test_words_that_say_nothing_are_no_words(client: TestClient) -> None:
    post(client, {"user_id": "mumbled", "event_type": "query", "text": " \n\t "})
    post(client, {"user_id": "said nothing", "event_type": "query", "text": "\u200b\u200b"})
    cold = recommend(client, user_id="nobody at all")
    for user in ("mumbled", "said nothing"):
        answer = recommend(client, user_id=user)
        assert answer["degraded"] == ["cold_user"], user
        assert answer["items"] == cold["items"]


def test_the_words_of_a_request_move_the_list(client: TestClient, shop: Workspace) -> None:
    """More of the first ten come from the category asked for than without words, for every user tried."""
    attributes = shop.release.catalogue.attributes
    matching = attributes.filter(pl.col("title").str.contains("(?i)cushion"))["item_id"].to_list()
    assert 2 <= len(matching) <= 40
    for user in ("u0005", "u0006", "nobody at all"):
        plain = recommend(client, user_id=user, k=10)
        asked = recommend(client, user_id=user, k=10, query_text="a soft cushion")
        counts = [len(set(listed(answer)) & set(matching)) for answer in (plain, asked)]
        assert counts[1] > counts[0]
        assert asked["degraded"] == plain["degraded"]
        assert any(s["source"] == WORDS for s in asked["items"][0]["sources"])
    silent = recommend(client, user_id="u0005", k=10, query_text="  ")
    assert silent["degraded"] == ["query_text_ignored"]
    assert listed(silent) == listed(recommend(client, user_id="u0005", k=10))
    assert recommend(client, user_id="u0005", k=10, query_text="")["degraded"] == []


def test_without_a_text_source_words_are_ignored_and_that_is_said(workspace: Workspace) -> None:
    release = workspace.release
    silent = {n: r for n, r in release.recommenders.items() if not r.reads_text}
    weights = dict.fromkeys(("ease",), 1.0)
    made = Release("", release.about, release.catalogue, silent, weights, release.blend)
    workspace.releases.activate(publish(made, workspace.releases.root))
    with TestClient(create_app(workspace)) as client:
        answer = recommend(client, user_id="u0002", query_text="cushion")
        assert answer["degraded"] == ["query_text_ignored"]
        assert answer["items"] == recommend(client, user_id="u0002")["items"]
        assert post(client, {"user_id": "wrote", "event_type": "query", "text": "cushion"})["accepted"] == 1
        assert recommend(client, user_id="wrote")["degraded"] == ["cold_user"]


def test_who_has_seen_everything_still_gets_a_list(client: TestClient, shop: Workspace) -> None:
    names = shop.release.catalogue.items.ids.to_list()
    post(client, *(view("saw it all", item) for item in names))
    answer = recommend(client, user_id="saw it all", k=15)
    assert len(set(listed(answer))) == 15
    left = recommend(client, user_id="saw it all", k=15, exclude=listed(answer))
    assert len(listed(left)) == 15
    assert not set(listed(left)) & set(listed(answer))


# Rank and similar


def test_rank_keeps_every_item(client: TestClient, shop: Workspace) -> None:
    asked = ["no such", "i0010", "i0005", "no more", "i0010", "i0100", "no such", "i0077"]
    answer = ok(client.post("/v1/rank", json={"user_id": "u0001", "item_ids": asked}))
    assert set(answer) == {"release", "watermark", "items", "unknown"}
    assert answer["unknown"] == ["no such", "no more"]
    assert [item["rank"] for item in answer["items"]] == [1, 2, 3, 4, 5, 6]
    assert set(listed(answer)) == set(asked)
    assert listed(answer)[4:] == ["no such", "no more"]
    scores = [item["score"] for item in answer["items"]]
    assert scores[4:] == [None, None]
    assert scores[:4] == sorted(scores[:4], reverse=True)
    only = ok(client.post("/v1/rank", json={"user_id": "u0001", "item_ids": ["x", "w"]}))
    assert only["items"] == [{"item_id": n, "rank": r, "score": None} for r, n in ((1, "x"), (2, "w"))]


def test_a_thousand_items_are_ranked_and_one_more_is_not(client: TestClient, shop: Workspace) -> None:
    names = [*shop.release.catalogue.items.ids, *(f"unknown {n}" for n in range(801))]
    answer = ok(client.post("/v1/rank", json={"user_id": "u0001", "item_ids": names[:1000]}))
    assert len(answer["items"]) == 1000
    assert listed(answer)[200:] == names[200:1000]
    problem(client.post("/v1/rank", json={"user_id": "u0001", "item_ids": names}), 422, "invalid")


def test_rank_takes_events_and_cold_users(client: TestClient) -> None:
    names = [f"i{n:04}" for n in range(20)]
    cold = ok(client.post("/v1/rank", json={"user_id": "nobody at all", "item_ids": names}))
    assert ok(client.post("/v1/rank", json={"events": [], "item_ids": names}))["items"] == cold["items"]
    warm = [{"item_id": "i0150", "event_type": "purchase"}]
    answer = ok(client.post("/v1/rank", json={"events": warm, "item_ids": names}))
    assert set(listed(answer)) == set(names)
    assert listed(answer) != listed(cold)


def test_similar(client: TestClient, shop: Workspace) -> None:
    for name in shop.release.catalogue.items.ids.gather_every(7):
        answer = ok(client.post("/v1/similar", json={"item_id": name, "k": 12}))
        assert set(answer) == {"release", "watermark", "items"}
        assert len(answer["items"]) == len(set(listed(answer))) == 12
        assert name not in listed(answer)
        for rank, item in enumerate(answer["items"], 1):
            assert item == {"item_id": item["item_id"], "rank": rank, "score": item["score"]}
        whole = ok(client.post("/v1/similar", json={"item_id": name, "k": 500}))
        assert name not in listed(whole)
    found = problem(client.post("/v1/similar", json={"item_id": "no such"}), 404, "unknown_item")
    assert "no such" in found["detail"]


# Events


def test_one_event_a_list_or_an_object_of_events(client: TestClient, shop: Workspace) -> None:
    before = shop.store.watermark()
    one = ok(client.post("/v1/events", json=view("shapes", event_id="shape 1")))
    assert one == {
        "accepted": 1,
        "duplicates": 0,
        "rejected": [],
        "event_ids": ["shape 1"],
        "watermark": before + 1,
    }
    several = [view("shapes", event_id=f"shape {n}") for n in (2, 3)]
    assert ok(client.post("/v1/events", json=several))["watermark"] == before + 3
    wrapped = {"events": [view("shapes", event_id="shape 4")]}
    assert ok(client.post("/v1/events", json=wrapped))["event_ids"] == ["shape 4"]
    nothing = ok(client.post("/v1/events", json=[]))
    assert nothing == {
        "accepted": 0,
        "duplicates": 0,
        "rejected": [],
        "event_ids": [],
        "watermark": before + 4,
    }
    kept = shop.store.tail("shapes", 10, datetime.now(UTC))
    assert kept["event_id"].to_list() == ["shape 1", "shape 2", "shape 3", "shape 4"]
    for body in (b"3", b'"x"', b"null", b'{"events": 3}', b'{"events": {}}'):
        problem(client.post("/v1/events", content=body), 422, "invalid")


def test_each_event_has_its_own_fate(client: TestClient, shop: Workspace) -> None:
    now = datetime.now(UTC)
    good = view("fates", event_id="fate", timestamp=now.isoformat(), value=2.5)
    assert post(client, good)["accepted"] == 1
    before = shop.store.watermark()
    batch = [
        view("fates", event_id="fate 2", timestamp=now.isoformat()),
        good,
        {**good, "value": 3.5},
        {"user_id": "fates"},
        view("fates", event_id="fate 2", timestamp=now.isoformat()),
        "no event",
    ]
    answer = post(client, *batch)  # type: ignore[arg-type]
    assert (answer["accepted"], answer["duplicates"]) == (1, 2)
    assert [r["index"] for r in answer["rejected"]] == [2, 3, 5]
    assert answer["rejected"][0]["problem"] == "event_id 'fate' is in the log with other content"
    assert answer["event_ids"] == ["fate 2", "fate", "fate", None, "fate 2", None]
    assert answer["watermark"] == before + 1
    kept = shop.store.tail("fates", 10, now)
    assert kept["value"].to_list() == [2.5, None]


@pytest.mark.parametrize(
    ("event", "problem_names"),
    [
        ({"user_id": "u"}, "event_type"),
        ({"event_type": "view"}, "either a user_id or an anonymous_id"),
        (view("u", anonymous_id="a"), "either a user_id or an anonymous_id"),
        (view("u", colour="red"), "colour"),
        (view(""), "user_id"),
        (view("u", ""), "item_id"),
        (view("u", event_type=""), "event_type"),
        (view("u", event_type="v" * 101), "event_type"),
        (view("u" * 1025), "user_id"),
        (view("u", timestamp="1970-01-01T00:00:00Z"), "timestamp"),
        (view("u", timestamp="2999-01-01T00:00:00Z"), "timestamp"),
        (view("u", timestamp="0001-01-01T00:00:00+14:00"), "timestamp"),
        (view("u", timestamp="9999-12-31T23:59:59-14:00"), "timestamp"),
        (view("u", timestamp="yesterday"), "timestamp"),
        (view("u", timestamp=0), "timestamp"),
        (view("u", timestamp=1e300), "timestamp"),
        (view("u", value="NaN"), "value"),
        (view("u", value="inf"), "value"),
        (view("u", value="much"), "value"),
        (view("u", text="x" * 100_001), "text"),
        (view("u", properties="{}"), "properties"),
        (view("u", properties=[1]), "properties"),
        (None, ""),
        ([], ""),
    ],
)
def test_what_is_no_event_is_rejected_with_its_place(
    client: TestClient, shop: Workspace, event: Any, problem_names: str
) -> None:
    before = shop.store.watermark()
    answer = ok(client.post("/v1/events", json=[event, view("beside", event_type="look")]))
    assert answer["accepted"] == 1
    assert [r["index"] for r in answer["rejected"]] == [0]
    assert problem_names in answer["rejected"][0]["problem"]
    assert answer["event_ids"][0] is None
    assert shop.store.watermark() == before + 1


def test_properties_nested_deeper_than_can_be_written(client: TestClient) -> None:
    deep: dict[str, Any] = {}
    for _ in range(400):
        deep = {"a": deep}
    answer = post(client, view("deep", properties=deep), view("deep", properties={"a": {"b": [1, "x"]}}))
    assert answer["accepted"] == 1
    assert "properties" in answer["rejected"][0]["problem"]
    asked = {"events": [{"event_type": "view", "properties": deep}]}
    problem(client.post("/v1/recommendations", json=asked), 422, "invalid")


def test_numbers_json_does_not_have(client: TestClient) -> None:
    for number in (b"NaN", b"Infinity", b"1e999"):
        body = b'[{"user_id": "u", "event_type": "view", "value": ' + number + b"}]"
        problem(client.post("/v1/events", content=body), 400, "bad_json")


def test_a_call_has_limits(client: TestClient, shop: Workspace) -> None:
    before = shop.store.watermark()
    many = [view("many", event_id=f"many {n}") for n in range(1001)]
    problem(client.post("/v1/events", json=many), 413, "too_many")
    assert shop.store.watermark() == before
    assert ok(client.post("/v1/events", json=many[:1000]))["accepted"] == 1000
    body = json.dumps([view("large", text="x" * 90_000) for _ in range(10)]).encode()
    fits = body[:-1] + b" " * (BODY_LIMIT - len(body)) + b"]"
    assert len(fits) == 1 << 20
    assert ok(client.post("/v1/events", content=fits))["accepted"] == 10
    too_much = fits[:-1] + b" ]"
    problem(client.post("/v1/events", content=too_much), 413, "too_large")
    problem(client.post("/v1/recommendations", content=too_much), 413, "too_large")
    assert shop.store.watermark() == before + 1010


def test_a_retry_adds_nothing(client: TestClient, shop: Workspace) -> None:
    """With ids of the client, or with an Idempotency-Key; with a time given, or by our clock."""
    named = [view("retries", event_id="retry"), view("retries", event_id="retry 2", timestamp="2024-05-01")]
    bare = [view("retries"), view("retries", "i0002", text="soft"), view("retries")]
    first = [post(client, *named), post(client, *bare, Idempotency_Key="key 1")]
    assert [answer["accepted"] for answer in first] == [2, 3]
    watermark = shop.store.watermark()
    for _ in range(3):
        time.sleep(0.002)
        again = [post(client, *named), post(client, *bare, Idempotency_Key="key 1")]
        assert [answer["duplicates"] for answer in again] == [2, 3]
        assert [answer["rejected"] for answer in again] == [[], []]
        assert again[1]["event_ids"] == first[1]["event_ids"]
    assert shop.store.watermark() == watermark
    other = post(client, *bare, Idempotency_Key="key 2")
    assert other["accepted"] == 3
    assert not set(other["event_ids"]) & set(first[1]["event_ids"])
    # The same id with other content is another event, whoever gave the time.
    both = [view("retries", "i0003", event_id="retry"), {**view("someone"), "event_id": "retry"}]
    clash = problem(client.post("/v1/events", json=both), 409, "conflict")
    assert [r["index"] for r in clash["rejected"]] == [0, 1]
    assert (clash["accepted"], clash["duplicates"]) == (0, 0)
    key = {"Idempotency-Key": "key 1"}
    clash = problem(client.post("/v1/events", json=view("retries", "i0003"), headers=key), 409, "conflict")
    assert [r["index"] for r in clash["rejected"]] == [0]
    mixed = ok(client.post("/v1/events", json=[*both, view("retries", "i0004", event_id="retry 4")]))
    assert (mixed["accepted"], [r["index"] for r in mixed["rejected"]]) == (1, [0, 1])


def test_a_clock_that_runs_ahead_is_in_the_next_answer(workspace: Workspace) -> None:
    """Read-your-writes holds for a client whose clock is an hour early, but not for a moment that is set."""
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    event = {"user_id": "early", "item_id": "i0003", "event_type": "purchase", "timestamp": soon}
    with TestClient(create_app(workspace)) as client:
        assert ok(client.post("/v1/events", json=event))["accepted"] == 1
        answer = ok(client.post("/v1/recommendations", json={"user_id": "early", "k": 200}))
        assert "cold_user" not in answer["degraded"]
        assert "i0003" not in [item["item_id"] for item in answer["items"]]
        assert ok(client.get("/v1/users/early/profile"))["profile"]["count_purchase_all"] == 1
    now = datetime.now(UTC)
    with TestClient(create_app(workspace, clock=lambda: now)) as client:
        assert "cold_user" in ok(client.post("/v1/recommendations", json={"user_id": "early"}))["degraded"]


def test_a_store_that_cannot_be_written_is_not_ready(workspace: Workspace) -> None:
    with TestClient(create_app(workspace)) as client:
        ok(client.get("/readyz"))
        workspace.store._file.lock_path.unlink()  # type: ignore[attr-defined]
        workspace.store._file.lock_path.mkdir()  # type: ignore[attr-defined]
        assert "store" in problem(client.get("/readyz"), 503, "not_ready")["detail"]
        ok(client.get("/livez"))


def test_ids_are_made_and_returned(client: TestClient, shop: Workspace) -> None:
    answer = post(client, view("made"), view("made"))
    assert answer["accepted"] == 2
    assert len(set(answer["event_ids"])) == 2
    kept = shop.store.tail("made", 5, datetime.now(UTC))["event_id"].to_list()
    assert sorted(kept) == sorted(answer["event_ids"])


def test_an_event_is_kept_as_it_was_sent(client: TestClient, shop: Workspace) -> None:
    sent = {
        "event_id": "whole",
        "anonymous_id": "browser 7",
        "item_id": "i0009",
        "event_type": "rating",
        "timestamp": "2024-03-01T13:00:00.123456+01:00",
        "value": 4,
        "text": "déjà vu",
        "session_id": "s",
        "recommendation_id": "r",
        "properties": {"page": 3, "nested": {"ü": [None, 1.5]}},
    }
    assert post(client, sent)["accepted"] == 1
    (row,) = shop.store.tail("anonymous:browser 7", 5, datetime.now(UTC)).to_dicts()
    assert json.loads(row.pop("properties")) == sent["properties"]
    assert row.pop("timestamp") == datetime(2024, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
    assert row.pop("user_id") == "anonymous:browser 7"
    assert row == {k: v for k, v in sent.items() if k in row}


def test_a_time_without_zone_is_utc(client: TestClient, shop: Workspace) -> None:
    post(client, view("zones", timestamp="2024-03-01T13:00:00"), view("zones", timestamp=1_709_298_001))
    times = shop.store.tail("zones", 5, datetime.now(UTC))["timestamp"].to_list()
    assert times == [datetime(2024, 3, 1, 13, tzinfo=UTC), datetime(2024, 3, 1, 13, 0, 1, tzinfo=UTC)]


def test_a_posted_event_changes_the_very_next_answer(client: TestClient) -> None:
    for user in ("u0010", "a stranger"):
        before = recommend(client, user_id=user, k=10)
        bought = listed(before)[0]
        ack = post(client, view(user, bought, event_type="purchase"))
        after = recommend(client, user_id=user, k=10)
        assert after["watermark"] >= ack["watermark"]
        assert bought not in listed(after)
        assert listed(after) != listed(before)[1:]  # more than the gap closed: the purchase was read
        assert after["degraded"] == []


def test_an_answer_reflects_what_its_watermark_covers(client: TestClient, shop: Workspace) -> None:
    """200 random posts by 40 users: what was posted is never listed again, from its acknowledgement on."""
    random = np.random.default_rng(4)
    names = shop.release.catalogue.items.ids.to_list()
    done: dict[str, set[str]] = {}
    last = 0
    for _ in range(200):
        user, item = f"writer {random.integers(40)}", str(random.choice(names))
        ack = post(client, view(user, item))
        assert ack["watermark"] > last
        last = ack["watermark"]
        done.setdefault(user, set()).add(item)
        answer = recommend(client, user_id=user, k=200)
        assert answer["watermark"] >= ack["watermark"]
        assert set(listed(answer)) == set(names) - done[user]


# Users


def test_a_profile_says_what_is_known_and_why(client: TestClient, shop: Workspace) -> None:
    found = ok(client.get("/v1/users/u0011/profile"))
    assert set(found) == {"user_id", "as_of", "watermark", "attributes", "profile", "events"}
    assert found["user_id"] == "u0011"
    columns = shop.snapshot.frame("user_profiles").drop("user_id").columns
    assert list(found["profile"]) == columns
    assert set(found["attributes"]) >= {"user_id", "country", "age_band"}
    assert 0 < len(found["events"]) <= 20
    times = [event["timestamp"] for event in found["events"]]
    assert times == sorted(times, reverse=True)
    problem(client.get("/v1/users/nobody%20at%20all/profile"), 404, "unknown_user")
    post(client, view("newly known"))
    assert ok(client.get("/v1/users/newly known/profile"))["profile"]["events_all"] == 1


@pytest.mark.parametrize("odd", ODD)
def test_any_text_is_an_id(client: TestClient, shop: Workspace, odd: str) -> None:
    """In bodies and in paths, as user, item and event."""
    path = f"/v1/users/{quote(odd, safe='')}"
    problem(client.get(f"{path}/profile"), 404, "unknown_user")
    answer = post(client, view(odd, odd, event_id=odd), view(odd, "i0020"))
    assert answer["accepted"] == 2
    assert post(client, view(odd, odd, event_id=odd))["duplicates"] == 1
    found = ok(client.get(f"{path}/profile"))
    assert found["user_id"] == odd
    assert found["profile"]["last_items"] == ["i0020"]  # the release knows no other
    long = recommend(client, user_id=odd, k=5, exclude=[odd])
    assert len(listed(long)) == 5
    assert ok(client.get(f"{path}/recommendations?k=5"))["items"] == long["items"]
    ranked = ok(client.post("/v1/rank", json={"user_id": odd, "item_ids": [odd, "i0001"]}))
    assert (listed(ranked), ranked["unknown"]) == (["i0001", odd], [odd])
    problem(client.post("/v1/similar", json={"item_id": odd}), 404, "unknown_item")


def test_an_id_too_long_in_a_path(client: TestClient) -> None:
    for call in ("profile", "recommendations"):
        problem(client.get(f"/v1/users/{'u' * 1025}/{call}"), 422, "invalid")
        assert client.get(f"/v1/users/{'u' * 1024}/{call}").status_code in (200, 404)


# Errors


def test_every_error_is_a_problem(client: TestClient) -> None:
    for path in ("/", "/v1", "/v2/events", "/v1/users//profile", "/v1/%ff", "/v1/items/i0001"):
        problem(client.get(path), 404, "not_found")
    for method, path, allowed in (
        ("DELETE", "/v1/events", "POST"),
        ("GET", "/v1/recommendations", "POST"),
        ("PUT", "/v1/rank", "POST"),
        ("POST", "/livez", "GET"),
        ("POST", "/v1/users/u/profile", "GET"),
    ):
        answer = client.request(method, path)
        problem(answer, 405, "method_not_allowed")
        assert answer.headers["allow"] == allowed
    for body in (b"", b"{", b"\xff", b"{'a': 1}", b"[1,]", b"[" * 2000):
        for path in ("events", "recommendations", "rank", "similar"):
            problem(client.post(f"/v1/{path}", content=body), 400, "bad_json")
    for body in (b"[]", b'"x"', b"3", b"null"):
        problem(client.post("/v1/recommendations", content=body), 422, "invalid")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", "nonsense"])
def test_the_content_type_does_not_matter(client: TestClient, kind: str) -> None:
    body = json.dumps({"user_id": "u0001", "k": 3}).encode()
    answer = client.post("/v1/recommendations", content=body, headers={"content-type": kind})
    assert len(ok(answer)["items"]) == 3


def test_a_fault_tells_nothing_of_the_inside(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("the secret is swordfish in /etc/passwd")

    monkeypatch.setattr(Engine, "recommend", fail)
    answer = client.post("/v1/recommendations", json={"user_id": "u0001"})
    found = problem(answer, 500, "internal_error")
    assert set(found) == {"type", "title", "status", "code", "detail"}
    for word in ("swordfish", "RuntimeError", "passwd", "File", ".py"):
        assert word not in answer.text
    monkeypatch.undo()
    assert recommend(client, user_id="u0001")["items"]


def references(value: Any) -> Iterator[str]:
    """Yield every $ref of a document."""
    if isinstance(value, dict):
        for name, part in value.items():
            if name == "$ref":
                yield part
            else:
                yield from references(part)
    elif isinstance(value, list):
        for part in value:
            yield from references(part)


def test_the_description_is_whole(client: TestClient) -> None:
    document = ok(client.get("/openapi.json"))
    assert document["openapi"].startswith("3.1")
    assert document["info"] == {"title": "Attune", "version": "1"}
    calls = {(path, method) for path, methods in document["paths"].items() for method in methods}
    assert calls == {
        ("/livez", "get"),
        ("/readyz", "get"),
        ("/v1/events", "post"),
        ("/v1/recommendations", "post"),
        ("/v1/rank", "post"),
        ("/v1/similar", "post"),
        ("/v1/users/{user_id}/recommendations", "get"),
        ("/v1/users/{user_id}/profile", "get"),
    }
    for reference in references(document):
        part: Any = document
        for name in reference.removeprefix("#/").split("/"):
            part = part[name]
    names = set()
    for path, methods in document["paths"].items():
        for call in methods.values():
            names.add(call["operationId"])
            assert call["summary"]
            in_path = {p["name"] for p in call.get("parameters", []) if p["in"] == "path"}
            assert in_path == ({"user_id"} if "{user_id}" in path else set())
            for status, answer in call["responses"].items():
                kinds = set(answer["content"])
                problems = {"application/problem+json"}
                assert kinds == ({"application/json"} if status == "200" else problems)
    assert len(names) == len(calls)
    body = document["paths"]["/v1/recommendations"]["post"]["requestBody"]
    schema = body["content"]["application/json"]["schema"]
    assert set(schema["properties"]) == {"user_id", "events", "query_text", "k", "exclude", "explain"}
    assert schema["additionalProperties"] is False


# Releases under a running server


def wait(until: Any, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def test_another_release_is_picked_up_and_a_damaged_one_is_not(workspace: Workspace) -> None:
    with (workspace.folder / "attune.toml").open("a") as file:
        file.write("[serve]\nreload_seconds = 0.02\n")
    workspace = Workspace(workspace.folder, workspace.folder / "attune.toml")
    releases, first = workspace.releases, workspace.releases.active()
    loaded = workspace.release

    def publish_with(weight: float) -> str:
        weights = {"popularity": weight}
        made = Release("", loaded.about, loaded.catalogue, loaded.recommenders, weights, loaded.blend)
        return publish(made, releases.root)

    good, damaged, last = publish_with(0.5), publish_with(0.25), publish_with(0.75)
    with TestClient(create_app(workspace)) as client:
        assert recommend(client, user_id="u0002")["release"] == first
        releases.activate(good)
        wait(lambda: ok(client.get("/readyz"))["release"] == good)
        answer = recommend(client, user_id="u0002")
        assert answer["release"] == good
        assert {s["source"] for i in answer["items"] for s in i["sources"]} == {"popularity"}

        path = releases.root / damaged / "recommenders" / "ease" / "state.safetensors"
        path.write_bytes(path.read_bytes()[:-1])
        # While this is written the file is empty for a moment, and the server may say so first.
        (releases.root / "active.json").write_text(json.dumps({"trail": [first, good, damaged]}))
        wait(lambda: damaged in (ok(client.get("/readyz"))["trouble"] or ""))
        ready = ok(client.get("/readyz"))
        assert ready["release"] == good
        assert "state.safetensors" in ready["trouble"]
        assert recommend(client, user_id="u0002")["items"] == answer["items"]

        (releases.root / "active.json").write_text("{")
        wait(lambda: "active.json" in ok(client.get("/readyz"))["trouble"])
        assert recommend(client, user_id="u0002")["release"] == good

        releases.activate(last)
        wait(lambda: ok(client.get("/readyz"))["release"] == last)
        assert ok(client.get("/readyz"))["trouble"] is None


def test_a_release_that_fails_in_a_way_nobody_thought_of(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old one goes on answering, and the next good one is still picked up."""
    live = Live(workspace, lambda: datetime.now(UTC), timedelta(0), exposures=None)  # type: ignore[arg-type]
    live.refresh()
    assert live.engine is not None
    first, loaded = live.engine.release.name, workspace.release
    other = Release("", loaded.about, loaded.catalogue, loaded.recommenders, {"ease": 2.0}, loaded.blend)
    workspace.releases.activate(publish(other, workspace.releases.root))

    def fail(*_: object) -> None:
        raise KeyError("settings")

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "warm", fail)
        live.refresh()
    assert live.engine.release.name == first
    assert live.trouble is not None
    assert "settings" in live.trouble
    live.refresh()
    assert live.engine.release.name == workspace.releases.active()
    assert live.trouble is None


def test_a_new_item_is_recommended_after_the_next_run(workspace: Workspace) -> None:
    """An item the release does not know is taken in the log, and listed once a release knows it."""
    with TestClient(create_app(workspace)) as client:
        for n in range(60):
            assert post(client, view(f"fan {n}", "brand new"), view(f"fan {n}", "i0001"))["accepted"] == 2
        answer = recommend(client, events=[{"item_id": "i0001", "event_type": "view"}], k=200)
        assert "brand new" not in listed(answer)
    Pipeline(workspace).run()
    with TestClient(create_app(workspace)) as client:
        answer = recommend(client, events=[{"item_id": "i0001", "event_type": "view"}], k=20)
        assert "brand new" in listed(answer)


# A real process


def test_a_real_server(workspace: Workspace) -> None:
    """Started by the command line, it answers, and SIGTERM ends it with every exposure written."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).with_name("attune")), "serve", "-w", str(workspace.folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    server = subprocess.Popen(
        [*command, "--port", str(port)], stderr=subprocess.PIPE, text=True, env=environment
    )
    address = f"http://127.0.0.1:{port}"

    def get(path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(address + path, data), timeout=10) as answer:
            return json.loads(answer.read())

    def up() -> bool:
        assert server.poll() is None, server.communicate()[1]
        try:
            return bool(get("/readyz")["status"] == "ready")
        except OSError:
            return False

    try:
        wait(up, 60)
        answers = [get("/v1/recommendations", {"user_id": f"u{n:04}", "k": 3}) for n in range(1, 31)]
        bought = answers[0]["items"][0]["item_id"]
        ack = get("/v1/events", {"user_id": "u0001", "item_id": bought, "event_type": "purchase"})
        assert ack["accepted"] == 1
        answers.append(get("/v1/users/u0001/recommendations?k=3"))
        assert bought not in [item["item_id"] for item in answers[-1]["items"]]
        for odd in ("50%25", "a/b", "x\ny", "what?#", "🍮"):  # through a real socket, decoded once
            get("/v1/events", view(odd))
            assert get(f"/v1/users/{quote(odd, safe='')}/profile")["user_id"] == odd
        server.send_signal(signal.SIGTERM)
        _, said = server.communicate(timeout=30)
    finally:
        server.kill()
    assert "Traceback" not in said
    assert server.returncode in (0, -signal.SIGTERM)
    shown = workspace.exposures.exposures()
    told = [(a["recommendation_id"], i["item_id"], i["rank"]) for a in answers for i in a["items"]]
    assert shown.select("recommendation_id", "item_id", "rank").rows() == told
    assert workspace.store.tail("u0001", 1, datetime.now(UTC) + timedelta(days=1))["item_id"][0] == bought
