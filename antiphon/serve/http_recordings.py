"""`/v1/recordings`: conversations that were kept; there are none unless the server was told to keep them."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse
from pydantic import BaseModel

from antiphon.serve.errors import RESPONSES, ApiError
from antiphon.serve.openai.models import served_of
from antiphon.serve.recordings import Recordings

router = APIRouter(
    prefix="/v1/recordings", responses={code: RESPONSES[code] for code in (401, 403)} | {404: RESPONSES[400]}
)


class Kept(BaseModel):
    """A conversation: when it began (seconds since 1970), and how long it was."""

    id: str
    model: str
    began: float
    seconds: float


class KeptList(BaseModel):
    data: list[Kept]


class KeptWhole(Kept):
    """With its messages, as the Realtime protocol shows them."""

    items: list[dict[str, Any]]


class Deleted(BaseModel):
    id: str
    deleted: bool = True


def _recordings(request: Request) -> Recordings:
    recordings = served_of(request).recordings
    if recordings is None:
        raise ApiError(404, "not_recording", "This server keeps no conversations; see `antiphon serve --record`.")
    return recordings


def _gone(name: str) -> ApiError:
    return ApiError(404, "not_found", f"No conversation '{name[:100]}' is kept.", "id")


@router.get("", summary="Conversations that were kept")
async def recordings(request: Request) -> KeptList:
    return KeptList(data=[Kept(**row) for row in _recordings(request).list()])


@router.get("/{name}", summary="One, with its words")
async def recording(request: Request, name: str) -> KeptWhole:
    found = _recordings(request).get(name)
    if found is None:
        raise _gone(name)
    return KeptWhole(**found)


@router.get("/{name}/audio", summary="Its sound: left the model, right the user", response_class=FileResponse)
async def recording_audio(request: Request, name: str) -> FileResponse:
    path = _recordings(request).sound(name)
    if path is None:
        raise _gone(name)
    return FileResponse(path, media_type="audio/flac", filename=path.name)


@router.delete("/{name}", summary="Forget one")
async def delete_recording(request: Request, name: str) -> Deleted:
    if not _recordings(request).delete(name):
        raise _gone(name)
    return Deleted(id=name)
