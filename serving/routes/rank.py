"""POST /v1/rank and POST /v1/similar."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from serving.engine import Engine
from serving.problems import Problem
from serving.requests import Ranking, Similar, body, described
from serving.routes.live import answer, engine, live, past

router = APIRouter(prefix="/v1", tags=["ranking"])

Answering = Annotated[Engine, Depends(engine)]


@router.post("/rank", summary="The given items in the user's order.", openapi_extra=described(Ranking))
async def post_rank(
    request: Request, asked: Annotated[Ranking, Depends(body(Ranking))], engine: Answering
) -> Response:
    """Order up to 1,000 items for a user; unknown ones keep their order at the end."""
    return answer(engine.rank(past(asked, engine, live(request).clock()), asked.item_ids))


@router.post("/similar", summary="Items like an item.", openapi_extra=described(Similar))
async def post_similar(
    request: Request, asked: Annotated[Similar, Depends(body(Similar, ("user_id",)))], engine: Answering
) -> Response:
    """Return items that go with an item; 404 where the release does not know it."""
    found = engine.similar(asked.item_id, asked.k, live(request).clock())
    if found is None:
        raise Problem(404, "unknown_item", f"the release has no item {asked.item_id!r}")
    return answer(found)
