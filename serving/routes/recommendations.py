"""POST /v1/recommendations and its short form."""

import asyncio
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request, Response

from serving.engine import Engine, exposures
from serving.requests import NOT_YET, Recommendations, body, described
from serving.routes.live import UserId, answer, engine, live, past

router = APIRouter(prefix="/v1", tags=["recommendations"])

Asked = Annotated[Recommendations, Depends(body(Recommendations, NOT_YET))]
Answering = Annotated[Engine, Depends(engine)]


@router.post(
    "/recommendations", summary="The right items for one user.", openapi_extra=described(Recommendations)
)
async def post_recommendations(request: Request, asked: Asked, engine: Answering) -> Response:
    """Rank for a user the log knows, or for the events given."""
    if asked.query_text is None:
        return _recommend(request, asked, engine)
    return await asyncio.to_thread(_recommend, request, asked, engine)  # it waits for the encoder


@router.get("/users/{user_id:id}/recommendations", summary="The short form.")
async def get_recommendations(
    request: Request,
    user_id: UserId,
    engine: Answering,
    k: Annotated[int, Query(ge=1, le=500)] = 10,
    explain: Literal["none", "reasons"] = "none",
) -> Response:
    """Rank for a user the log knows."""
    return _recommend(request, Recommendations(user_id=user_id, k=k, explain=explain), engine)


def _recommend(request: Request, asked: Recommendations, engine: Engine) -> Response:
    state = live(request)
    now = state.clock()
    user = past(asked, engine, now)
    found = engine.recommend(user, asked.k, asked.exclude, asked.query_text, asked.explain == "reasons")
    if asked.user_id is not None:
        state.exposures.offer(exposures(found, asked.user_id, now))
    return answer(found)
