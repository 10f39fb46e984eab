"""The HTTP application: typed state, problems, and an explicit list of routes.

Importing this loads neither torch nor transformers; a release with a text source loads the encoder when
it is warmed. Answers are worked out on the event loop, where a few milliseconds cost less than a thread
does; what waits for a disk or an encoder runs in a worker thread.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from fastapi import FastAPI
from starlette.convertors import Convertor, register_url_convertor

from profiles.schema import AHEAD
from serving import problems
from serving.engine import Engine
from serving.exposures import ExposureLog
from serving.workspace import Workspace

log = logging.getLogger("attune.serving")


class _AnyId(Convertor[str]):
    """An id in a path: anything but nothing, slashes and newlines included."""

    regex = r"[\s\S]+"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("id", _AnyId())


@dataclass
class Live:
    """What requests share. `engine` is replaced as one reference, so an answer never mixes two releases."""

    workspace: Workspace
    clock: Callable[[], datetime]
    ahead: timedelta  # how far a client's clock may run before ours
    exposures: ExposureLog
    engine: Engine | None = None
    trouble: str | None = None  # why the pointed-to release is not the one answering

    def refresh(self) -> None:
        """Load the active release if it is not the one answering; keep the old one if it cannot be read."""
        try:
            name = self.workspace.releases.active()
            if name is None or (self.engine is not None and self.engine.release.name == name):
                self.trouble = "no release is active" if name is None else None
                return
            engine = Engine(self.workspace, self.workspace.releases.load_active(), self.ahead)
            engine.warm(self.clock())
            self.engine, self.trouble = engine, None
        except Exception as error:  # whatever ails a release, the one that answers goes on answering
            if self.trouble != str(error):
                log.error("the active release cannot be used: %s", error)
            self.trouble = str(error)


def create_app(workspace: Workspace, clock: Callable[[], datetime] | None = None) -> FastAPI:
    """Build the application over a workspace. `clock` says what the moment of a request is, if not now."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        serve = workspace.settings.serve
        exposures = ExposureLog(workspace.exposures, serve.exposure_queue)
        if clock is None:
            live = Live(workspace, lambda: datetime.now(UTC), AHEAD, exposures)
        else:  # a moment that is set is the past: nothing later than it counts
            live = Live(workspace, clock, timedelta(0), exposures)
        live.refresh()
        app.state.live = live

        async def watch() -> None:
            while True:
                await asyncio.sleep(serve.reload_seconds)
                await asyncio.to_thread(live.refresh)

        watcher = asyncio.create_task(watch())
        yield
        watcher.cancel()
        with suppress(asyncio.CancelledError):
            await watcher
        await asyncio.to_thread(live.exposures.close)

    from serving.routes import ROUTERS

    app = FastAPI(title="Attune", version="1", lifespan=lifespan, openapi_url="/openapi.json")
    problems.install(app)
    for router in ROUTERS:
        app.include_router(router, responses=problems.DOCUMENTED)
    return app
