"""What every route needs: the shared state, the engine that answers, and JSON bytes."""

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import polars as pl
from fastapi import Path, Request, Response

from profiles.schema import EVENTS
from serving.engine import Engine, Past
from serving.problems import Problem
from serving.requests import Event, WithUser

if TYPE_CHECKING:
    from serving.app import Live

NOBODY = "(events)"  # label of a user who is given by events alone

UserId = Annotated[str, Path(min_length=1, max_length=1024)]  # as in a body


def live(request: Request) -> "Live":
    """Return the application's shared state."""
    state: Live = request.app.state.live
    return state


def engine(request: Request) -> Engine:
    """Return the engine that answers now; 503 before the first release."""
    found = live(request).engine
    if found is None:
        raise Problem(503, "no_release", live(request).trouble or "no release is active")
    return found


def answer(value: Any, status: int = 200) -> Response:
    """Return ready-made JSON bytes: an order of magnitude less work than a response model."""
    return Response(orjson.dumps(value), status, media_type="application/json")


def frame(events: list[Event], now: datetime, name: Callable[[Event, int], tuple[str, str]]) -> pl.DataFrame:
    """Return events as EVENTS; `name` gives each its event and user id."""
    rows = [event.row(*name(event, place), now) for place, event in enumerate(events)]
    return EVENTS.conform(pl.DataFrame(rows, schema=EVENTS.schema)) if rows else EVENTS.empty()


def past(asked: WithUser, engine: Engine, now: datetime) -> Past:
    """Return the user a request is about, at this moment."""
    if asked.events is None:
        assert asked.user_id is not None
        return engine.past(asked.user_id, now)
    given = frame(asked.events, now, lambda _, place: (str(place), NOBODY))
    return engine.past(NOBODY, now, given)
