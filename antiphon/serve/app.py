"""The application: everything that `antiphon serve` answers.

app = create_app(antiphon.load("mini").backend, ServeConfig())
uvicorn.run(app)                                   # `antiphon serve` also drains, see `run`
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request, Response, WebSocket

from antiphon import __version__
from antiphon.audio.pcm import RATE
from antiphon.dialogue.backend import Backend
from antiphon.errors import ConfigError
from antiphon.serve import recordings as http_recordings
from antiphon.serve.access.auth import AuthMiddleware, BodyLimit, refuse
from antiphon.serve.access.headers import Page, SecurityHeaders
from antiphon.serve.errors import RequestError
from antiphon.serve.moshi import moshi_chat
from antiphon.serve.openai import audio as http_audio
from antiphon.serve.openai import chat as http_chat
from antiphon.serve.openai import models as http_models
from antiphon.serve.openai.errors import add_handlers
from antiphon.serve.realtime import calls as http_calls
from antiphon.serve.realtime.websocket import realtime
from antiphon.serve.settings import ServeConfig
from antiphon.serve.state import Metrics, Served
from antiphon.serve.work.admission import Admission, Pace
from antiphon.serve.work.scheduler import Scheduler

if TYPE_CHECKING:
    from antiphon.audio.smart_turn import TurnDetector
    from antiphon.dialogue.duplex.batched import BatchedEngine
    from antiphon.dialogue.turn_taking.network import NetworkTurns
    from antiphon.serve.wyoming import WyomingServer

log = logging.getLogger(__name__)

DESCRIPTION = """Talk to a model that hears, thinks and speaks.

The routes under `/v1` are OpenAI's, for OpenAI's clients. Live speech is a WebSocket, which OpenAPI can't describe:
`/v1/realtime`, the OpenAI Realtime protocol (GA), and `/api/chat`, Moshi's own, for duplex models."""


def create_app(
    backend: Backend,
    config: ServeConfig | None = None,
    pace: Pace | None = None,
    engine: BatchedEngine | None = None,
    turns: Callable[[str], NetworkTurns] | None = None,
    turn_detector: TurnDetector | None = None,
) -> FastAPI:
    """A server as an ASGI application; `app.state.served` is what its routes share.

    Args:
        backend: what is talked to.
        config: how.
        pace: how quick the model was measured to be (`admission.measure`); without it and without `config.sessions`,
            four conversations are admitted.
        engine: of a duplex model; live conversations are then held there.
        turns: makes what decides with `semantic_vad` whose turn it is, of an eagerness
            (`antiphon.dialogue.turn_taking.default.network_turns`); without it, that is refused.
        turn_detector: is asked besides (`antiphon.dialogue.turn_ends.turn_detector()`).
    """
    config = config or ServeConfig()
    if engine is None and backend.sample_rate != RATE:
        raise ConfigError(f"{backend.name} speaks at {backend.sample_rate} Hz; what is served speaks at {RATE}.")
    sessions = config.sessions or (pace.capacity if pace is not None else 4)
    scheduler = Scheduler(config.threads or (sessions if backend.shares_steps else 1))
    served = Served(backend, config, scheduler, Admission(sessions, config.requests), Metrics(), pace, engine)
    served.turns, served.turn_detector = turns, turn_detector
    served.metrics.capacity.set(sessions)
    if config.record is not None:
        served.recordings = http_recordings.Recordings(config.record)

    wyoming = _wyoming(served)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if wyoming is not None:
            await wyoming.start()
        with contextlib.suppress(ImportError):  # half a second's work, which is not to be done when somebody calls
            await asyncio.to_thread(importlib.import_module, "antiphon.serve.realtime.webrtc")
        yield
        if wyoming is not None:
            await wyoming.stop()
        await http_calls.hang_up_all(served)
        scheduler.close()
        if engine is not None:
            engine.close()
        if served.recordings is not None:
            served.recordings.close()

    app = FastAPI(
        title="Antiphon", version=__version__, description=DESCRIPTION, lifespan=lifespan, docs_url=None, redoc_url=None
    )
    app.state.served = served
    routers = [module.router for module in (http_models, http_chat, http_audio, http_recordings, http_calls)]
    add_handlers(app, [route for router in routers for route in router.routes])
    for router in routers:
        app.include_router(router)

    @app.websocket("/v1/realtime")
    async def _realtime(websocket: WebSocket) -> None:
        await realtime(websocket, served)

    @app.websocket("/api/chat")
    async def _chat(websocket: WebSocket) -> None:
        await moshi_chat(websocket, served)

    @app.websocket("/{path:path}")
    async def _nowhere(websocket: WebSocket) -> None:
        nowhere = RequestError("not_found", "There is no WebSocket here; see /v1/realtime.", status=404)
        await refuse(websocket.scope, websocket.receive, websocket.send, nowhere)

    @app.middleware("http")
    async def _count(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await call_next(request)
        route = request.scope.get("route")
        name = getattr(route, "path", "") or "other"
        served.metrics.requests.labels(name, str(response.status_code)).inc()
        return response

    if config.page.is_dir():
        app.mount("/", Page(directory=config.page, html=True), name="page")
    app.add_middleware(BodyLimit, config=config)
    app.add_middleware(AuthMiddleware, config=config, keys=served.keys)
    app.add_middleware(SecurityHeaders)
    return app


def _wyoming(served: Served) -> WyomingServer | None:
    """The server for Home Assistant, where one is asked for.

    Raises:
        ConfigError: what it takes isn't installed, or it can't be had.
    """
    if not served.config.wyoming:
        return None
    try:
        from antiphon.serve.wyoming import WyomingServer
    except ImportError as error:
        raise ConfigError(f"--wyoming needs pip install 'antiphon[wyoming]' ({error}).") from None
    return WyomingServer(served, served.config.wyoming)
