"""GET /v1/users/{id}/profile."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from serving.engine import Engine
from serving.problems import Problem
from serving.routes.live import UserId, answer, engine, live

router = APIRouter(prefix="/v1", tags=["users"])


@router.get("/users/{user_id:id}/profile", summary="What the system believes about a user, and why.")
async def get_profile(
    request: Request, user_id: UserId, engine: Annotated[Engine, Depends(engine)]
) -> Response:
    """Return every profile column and the latest events behind them; 404 for a user without either."""
    at = live(request).clock()
    if engine.labellings:  # a text that is new waits for its classifier
        found = await asyncio.to_thread(engine.profile, user_id, at)
    else:
        found = engine.profile(user_id, at)
    if not found.pop("known"):
        raise Problem(404, "unknown_user", f"the log knows no user {user_id!r}")
    return answer(found)
