"""What was shown is logged beside the answer, and what cannot be logged is counted."""

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest
from fastapi.testclient import TestClient

from profiles.schema import EXPOSURES, ContractError
from serving.app import create_app
from serving.engine import Engine, exposures
from serving.exposures import BATCH, ExposureLog
from serving.workspace import Workspace

NOW = datetime(2026, 6, 1, 12, 30, 15, 123456, tzinfo=UTC)


def shown(n: int, items: int = 3) -> pl.DataFrame:
    """Return the EXPOSURES of answer number n."""
    named = [{"item_id": f"item {i}"} for i in range(items)]
    listed = [{**item, "rank": rank} for rank, item in enumerate(named, 1)]
    return exposures({"recommendation_id": f"answer {n}", "release": "r", "items": listed}, f"user {n}", NOW)


class Gate:
    """A store that waits until it is opened, and fails while it is told to."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.broken = False
        self.batches: list[pl.DataFrame] = []

    def append_exposures(self, frame: pl.DataFrame) -> None:
        assert self.open.wait(10)
        if self.broken:
            raise OSError(28, "No space left on device")
        self.batches.append(frame)


@pytest.fixture
def gate() -> Gate:
    return Gate()


def opened(gate: Gate, size: int) -> ExposureLog:
    return ExposureLog(gate, size)  # type: ignore[arg-type]


@pytest.fixture
def client(workspace: Workspace) -> Iterator[TestClient]:
    with TestClient(create_app(workspace, clock=lambda: NOW), raise_server_exceptions=False) as client:
        yield client


def live(client: TestClient) -> Any:
    return client.app.state.live  # type: ignore[attr-defined]


def test_an_answer_as_exposures() -> None:
    frame = shown(7, items=2)
    assert frame.schema == EXPOSURES.schema
    assert frame.rows() == [
        ("answer 7", "user 7", f"item {i}", i + 1, None, "blend", "r", "default", NOW) for i in range(2)
    ]
    assert shown(7, items=0).schema == EXPOSURES.schema
    assert len(shown(7, items=0)) == 0


def test_every_answer_about_a_user_is_logged(client: TestClient, workspace: Workspace) -> None:
    answers = [
        ("u0002", client.post("/v1/recommendations", json={"user_id": "u0002", "k": 4}).json()),
        ("cold", client.post("/v1/recommendations", json={"user_id": "cold", "k": 2}).json()),
        ("u0003", client.get("/v1/users/u0003/recommendations?k=3").json()),
    ]
    live(client).exposures.flush()
    kept = workspace.exposures.exposures()
    assert kept.rows() == [
        (
            a["recommendation_id"],
            user,
            item["item_id"],
            item["rank"],
            None,
            "blend",
            workspace.releases.active(),
            "default",
            NOW,
        )
        for user, a in answers
        for item in a["items"]
    ]
    assert len({a["recommendation_id"] for _, a in answers}) == 3
    assert not (workspace.folder / "store" / "events.db").read_bytes().count(b"answer")


def test_nothing_else_is_logged(
    client: TestClient, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a failed call, nor one about nobody in particular, nor one that is no recommendation."""
    everything = workspace.release.catalogue.items.ids.to_list()
    calls = [
        ("/v1/recommendations", {"user_id": "u0002", "k": 0}, 422),
        ("/v1/recommendations", {"user_id": "u0002", "filter": "x"}, 422),
        ("/v1/recommendations", [], 422),
        ("/v1/recommendations", {"events": [{"event_type": "view", "item_id": "i0001"}]}, 200),
        ("/v1/recommendations", {"user_id": "u0002", "exclude": everything}, 200),
        ("/v1/rank", {"user_id": "u0002", "item_ids": ["i0001"]}, 200),
        ("/v1/similar", {"item_id": "i0001"}, 200),
        ("/v1/events", {"user_id": "u0002", "event_type": "view"}, 200),
    ]
    for path, body, status in calls:
        assert client.post(path, json=body).status_code == status, body
    assert client.get("/v1/users/u0002/profile").status_code == 200

    def fail(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(Engine, "_items", fail)
    assert client.post("/v1/recommendations", json={"user_id": "u0002"}).status_code == 500
    live(client).exposures.flush()
    assert len(workspace.exposures.exposures()) == 0
    assert live(client).exposures.lost == 0


def test_closing_writes_what_waits(workspace: Workspace) -> None:
    with TestClient(create_app(workspace)) as client:
        told = [client.get(f"/v1/users/u{n:04}/recommendations").json() for n in range(2, 22)]
    kept = workspace.exposures.exposures()
    wanted = [answer["recommendation_id"] for answer in told for _ in answer["items"]]
    assert kept["recommendation_id"].to_list() == wanted


def test_a_full_queue_loses_counts_and_does_not_wait(gate: Gate) -> None:
    log = opened(gate, 5)
    log.offer(shown(0))
    while not log._waiting.empty():  # the writer holds the first and waits at the gate
        time.sleep(0.001)
    start = time.perf_counter()
    for n in range(1, 101):
        log.offer(shown(n))
    assert time.perf_counter() - start < 5  # nobody waited: the gate is still shut
    assert log.lost == 3 * (100 - 5)
    gate.open.set()
    log.close()
    written = pl.concat(gate.batches)["recommendation_id"].unique(maintain_order=True).to_list()
    assert written == [f"answer {n}" for n in range(6)]
    assert log.lost == 3 * 95


def test_a_failing_store_loses_counts_and_is_tried_again(gate: Gate) -> None:
    gate.open.set()
    gate.broken = True
    log = opened(gate, 1000)
    for n in range(20):
        log.offer(shown(n))
    log.flush()
    assert log.lost == 60
    assert log._thread.is_alive()
    gate.broken = False
    log.offer(shown(99))
    log.flush()
    assert log.lost == 60
    assert [frame["recommendation_id"][0] for frame in gate.batches] == ["answer 99"]
    log.close()
    assert not log._thread.is_alive()


def test_answers_are_committed_together_and_in_order(gate: Gate) -> None:
    log = opened(gate, 10_000)
    for n in range(3 * BATCH):
        log.offer(shown(n, items=1))
    gate.open.set()
    log.close()
    assert max(len(frame) for frame in gate.batches) == BATCH
    assert len(gate.batches) <= 5
    written = pl.concat(gate.batches)["recommendation_id"].to_list()
    assert written == [f"answer {n}" for n in range(3 * BATCH)]


def test_answers_go_on_while_the_exposures_cannot_be_written(
    client: TestClient, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise ContractError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(workspace.exposures, "append_exposures", fail)
        for _ in range(5):
            assert client.get("/v1/users/u0002/recommendations?k=4").status_code == 200
        live(client).exposures.flush()
    assert client.get("/readyz").json()["exposures_lost"] == 20
    assert client.get("/v1/users/u0002/recommendations?k=4").status_code == 200
    live(client).exposures.flush()
    assert len(workspace.exposures.exposures()) == 4
    assert client.get("/readyz").json()["exposures_lost"] == 20
