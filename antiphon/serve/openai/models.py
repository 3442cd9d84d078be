"""`/v1/models`, `/health` and `/metrics`."""

from __future__ import annotations

import time
from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from antiphon import __version__
from antiphon.serve.errors import RequestError
from antiphon.serve.openai.errors import RESPONSES
from antiphon.serve.state import Served

router = APIRouter(responses={code: RESPONSES[code] for code in (401, 403)})


class ModelCard(BaseModel):
    """A model that is served."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "antiphon"


class ModelList(BaseModel):
    """Those that are."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


class Health(BaseModel):
    """How the server is.

    Attributes:
        status: "ok", or "stopping".
        sessions, capacity: live conversations, and how many are admitted at once.
        load: share of the last seconds in which the model worked, 0 to 1.
        voices: that can be asked for.
        languages: codes of those that are understood.
        sees: messages may have pictures and videos.
        calls_functions: it may be given tools.
        duplex: it talks live alone, and takes turns by itself.
    """

    status: Literal["ok", "stopping"]
    version: str
    model: str
    voices: list[str]
    languages: list[str]
    sees: bool
    calls_functions: bool
    duplex: bool
    sessions: int
    capacity: int
    load: float
    uptime_seconds: float


def served_of(request: Request) -> Served:
    """What the routes share."""
    return request.app.state.served


@router.get("/v1/models", summary="The models")
async def models(request: Request) -> ModelList:
    served = served_of(request)
    return ModelList(data=[ModelCard(id=served.backend.name, created=served.created)])


@router.get("/v1/models/{model}", summary="One model", responses={404: RESPONSES[400]})
async def model(request: Request, model: str) -> ModelCard:
    served = served_of(request)
    if model != served.backend.name:
        raise RequestError("model_not_found", f"The model '{model[:100]}' does not exist.", "model", status=404)
    return ModelCard(id=served.backend.name, created=served.created)


@router.get("/health", summary="How the server is")
async def health(request: Request) -> Health:
    served = served_of(request)
    return Health(
        status="stopping" if served.admission.draining else "ok",
        version=__version__,
        model=served.backend.name,
        voices=list(served.backend.voices),
        languages=list(served.backend.languages),
        sees=served.backend.sees,
        calls_functions=served.backend.calls_functions,
        duplex=served.engine is not None,
        sessions=served.admission.live,
        capacity=served.admission.sessions,
        load=round(served.scheduler.load(), 3),
        uptime_seconds=round(time.monotonic() - served.began, 1),
    )


@router.get("/metrics", summary="Counters for Prometheus", response_class=Response)
async def metrics(request: Request) -> Response:
    served = served_of(request)
    served.metrics.sessions.set(served.admission.live)
    served.metrics.load.set(served.scheduler.load())
    return Response(served.metrics.page(), media_type="text/plain; version=0.0.4; charset=utf-8")
