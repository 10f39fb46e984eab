"""POST /v1/events: answered once the commit has reached the disk."""

import asyncio
import uuid
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

import polars as pl
from fastapi import APIRouter, Request, Response
from pydantic import ValidationError

from profiles.sources.privacy import apply as masked
from profiles.store import EventStore
from serving.engine import EVERYTHING
from serving.problems import Problem
from serving.requests import Event, described, parsed
from serving.routes.live import answer, frame, live

router = APIRouter(prefix="/v1", tags=["events"])

MOST = 1000
END = datetime.max.replace(tzinfo=UTC)


@router.post("/events", summary="Append up to 1,000 events.", openapi_extra=described(Event))
async def post_events(request: Request) -> Response:
    """Append one event, a list, or {"events": [...]}: each is accepted, a duplicate, or rejected.

    A call of which nothing was taken is a problem (409 where all are conflicts, else 422) with the same
    members. Without an event_id one is made, from the Idempotency-Key header where there is one, so that the
    whole call can be sent again, and by chance where not.
    """
    given = await parsed(request)
    if isinstance(given, dict):
        given = given["events"] if set(given) == {"events"} else [given]
    if not isinstance(given, list):
        raise Problem(422, "invalid", "the body is an event, a list of events, or {events: [...]}")
    if len(given) > MOST:
        raise Problem(413, "too_many", f"a call takes at most {MOST} events, not {len(given)}")
    rejected: list[dict[str, Any]] = []
    events: list[Event] = []
    places: list[int] = []
    for place, item in enumerate(given):
        found = _event(item)
        if isinstance(found, str):
            rejected.append({"index": place, "problem": found})
        else:
            events.append(found)
            places.append(place)
    key = request.headers.get("idempotency-key")
    ids = [event.event_id or _made(key, place) for event, place in zip(events, places, strict=True)]
    users = [event.who() or "" for event in events]
    state = live(request)
    rows = frame(events, state.clock(), lambda _, n: (ids[n], users[n]))
    rows = masked(rows, state.workspace.settings.privacy)
    acks = await asyncio.to_thread(state.workspace.store.append, rows)
    statuses = list(acks.statuses)
    for n, event in enumerate(events):  # the clock gave the time, so it tells no retry from another event
        if statuses[n] == "conflict" and event.timestamp is None:
            sent_before = await asyncio.to_thread(_known, state.workspace.store, rows[n])
            statuses[n] = "duplicate" if sent_before else "conflict"
    for place, name, status in zip(places, ids, statuses, strict=True):
        if status == "conflict":
            problem = f"event_id {name!r} is in the log with other content"
            rejected.append({"index": place, "problem": problem})
    told: dict[str, Any] = {
        "accepted": statuses.count("accepted"),
        "duplicates": statuses.count("duplicate"),
        "rejected": sorted(rejected, key=lambda r: int(r["index"])),
        "event_ids": _aligned(ids, places, len(given)),
        "watermark": acks.watermark,
    }
    if rejected and len(rejected) == len(given):
        conflicts = "conflict" in statuses and len(statuses) == len(given)
        why = f"no event was taken: {told['rejected'][0]['problem']}"
        raise Problem(409 if conflicts else 422, "conflict" if conflicts else "invalid", why, **told)
    return answer(told)


def _event(item: Any) -> Event | str:
    """Return the event, or what is wrong with it."""
    try:
        event = Event.model_validate(item)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        return f"{field}: {first['msg']}" if field else str(first["msg"])
    if (event.user_id is None) == (event.anonymous_id is None):
        return "an event has either a user_id or an anonymous_id"
    return event


def _known(store: EventStore, row: pl.DataFrame) -> bool:
    """Whether the log holds this one event with the same content but for its time."""
    held = store.tail(row["user_id"][0], EVERYTHING, END).filter(pl.col("event_id") == row["event_id"][0])
    return len(held) == 1 and held.equals(row.with_columns(held["timestamp"]))


def _made(key: str | None, place: int) -> str:
    if key is None:
        return uuid.uuid4().hex
    return blake2b(f"{len(key)}:{key}:{place}".encode(), digest_size=16).hexdigest()


def _aligned(ids: list[str], places: list[int], size: int) -> list[str | None]:
    """Return the event ids in the order of the request; null where an event was not understood."""
    by_place = dict(zip(places, ids, strict=True))
    return [by_place.get(place) for place in range(size)]
