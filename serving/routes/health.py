"""/livez and /readyz."""

import asyncio

from fastapi import APIRouter, Request, Response

from serving.problems import Problem
from serving.routes.live import answer, live

router = APIRouter(tags=["operations"])


@router.get("/livez", summary="The process runs; nothing else is asked.")
async def livez() -> Response:
    """Answer while the process runs."""
    return answer({"status": "ok"})


@router.get("/readyz", summary="A release is loaded and warmed, and the store can be written.")
async def readyz(request: Request) -> Response:
    """Answer 200 where requests can be answered, 503 with what is missing where not."""
    state = live(request)
    if state.engine is None:
        raise Problem(503, "not_ready", state.trouble or "no release is active")
    store = state.workspace.store
    if trouble := await asyncio.to_thread(store.unwritable):
        raise Problem(503, "not_ready", f"the store cannot be written: {trouble}")
    watermark = store.watermark()
    found = {"status": "ready", "release": state.engine.release.name, "watermark": watermark}
    return answer(found | {"trouble": state.trouble, "exposures_lost": state.exposures.lost})
