"""`/v1/audio/speech` and `/v1/audio/transcriptions`: OpenAI's routes for reading aloud and writing down."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, File, Form, Request, Response, UploadFile
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from antiphon.audio import encode as sound
from antiphon.audio.pcm import RATE
from antiphon.dialogue.events import Sampling
from antiphon.errors import AudioError
from antiphon.models.tts.normalization.normalize import can_be_said
from antiphon.serve.errors import RESPONSES, ApiError, shown_error, unsupported
from antiphon.serve.openai.bodies import BoundedRoute
from antiphon.serve.openai.languages import language_problem
from antiphon.serve.openai.models import served_of
from antiphon.serve.openai.transcript import Segment, as_subtitles, cut, transcribe
from antiphon.serve.realtime.config import OPENAI_VOICES
from antiphon.serve.state import Served
from antiphon.serve.work.http import chained, first, worked

router = APIRouter(prefix="/v1/audio", responses=RESPONSES, route_class=BoundedRoute)


FIELDS = frozenset(
    "file model language prompt response_format temperature stream timestamp_granularities[] include[] "
    "chunking_strategy".split()
)  # of a transcription


class VoiceId(BaseModel):
    id: str = Field(max_length=200)


class SpeechRequest(BaseModel):
    """Text to be read aloud.

    Attributes:
        stream_format: the file's bytes as they are made ("audio"), or server-sent events with base64 of them ("sse").
    """

    model_config = ConfigDict(extra="forbid")

    model: str = Field("", max_length=200)
    input: str = Field(min_length=1)
    voice: str | VoiceId = "heart"
    response_format: sound.Format = "mp3"
    speed: float = Field(1.0, ge=0.25, le=4.0)
    stream_format: Literal["audio", "sse"] = "audio"
    instructions: str | None = None


def check_voice(served: Served, voice: str | VoiceId, param: str = "voice") -> None:
    """Raises ApiError unless there is such a voice; OpenAI's names mean the default one."""
    name = voice if isinstance(voice, str) else voice.id
    if name not in served.backend.voices and name not in OPENAI_VOICES:
        there = ", ".join(served.backend.voices)
        raise ApiError(400, "invalid_value", f"Unknown voice '{name[:100]}'; there are: {there}.", param)


@router.post(
    "/speech",
    summary="Read a text aloud",
    response_class=StreamingResponse,
    responses={200: {"content": {kind: {} for kind in (*sound.MEDIA.values(), "text/event-stream")}}},
)
async def speech(request: Request, asked: SpeechRequest) -> Response:
    served = served_of(request)
    if len(asked.input) > served.config.text_letters:
        most = f"Expected a string with maximum length {served.config.text_letters}"
        said = f"Invalid 'input': string too long. {most}, but got one with length {len(asked.input)} instead."
        raise ApiError(400, "string_above_max_length", said, "input")
    check_voice(served, asked.voice)
    if not can_be_said(asked.input):
        raise ApiError(400, "invalid_value", "The voice speaks English and can say nothing of that text.", "input")
    if (asked.instructions or "").strip():
        raise unsupported("instructions", "this voice takes none")

    frames = 0

    def steps() -> Iterator[bytes]:
        yield from sound.written(pieces(), asked.response_format, asked.speed)

    def pieces() -> Iterator[np.ndarray]:
        nonlocal frames
        for audio in served.backend.say(asked.input, Sampling()):
            frames += 1
            yield audio.samples.numpy()

    ahead, rest = await first(worked(served, steps))
    if asked.stream_format == "audio":
        return StreamingResponse(chained(ahead, rest), media_type=sound.MEDIA[asked.response_format])

    async def events() -> AsyncIterator[str]:
        try:
            async for data in chained(ahead, rest):
                yield sse({"type": "speech.audio.delta", "audio": base64.b64encode(data).decode()})
        except Exception as error:
            yield sse(shown_error(error))
            return
        words = len(asked.input.split())
        usage = {"input_tokens": words, "output_tokens": frames, "total_tokens": words + frames}
        yield sse({"type": "speech.audio.done", "usage": usage})

    return StreamingResponse(events(), media_type="text/event-stream")


class Transcription(BaseModel):
    """What was said."""

    text: str
    usage: dict[str, Any] | None = None
    task: str | None = None
    language: str | None = None
    duration: float | None = None
    segments: list[dict[str, Any]] | None = None


@router.post(
    "/transcriptions",
    summary="Write down what is said",
    response_model=Transcription,
    response_model_exclude_none=True,
    responses={200: {"content": {"text/plain": {}, "text/event-stream": {}}}},
)
async def transcriptions(
    request: Request,
    file: Annotated[UploadFile, File(description="A sound file of any usual format.")],
    model: Annotated[str, Form(max_length=200)] = "",
    language: Annotated[str | None, Form(max_length=64)] = None,
    prompt: Annotated[str | None, Form(max_length=10_000)] = None,
    response_format: Annotated[Literal["json", "text", "srt", "verbose_json", "vtt"], Form()] = "json",
    temperature: Annotated[float | None, Form(ge=0, le=1)] = None,
    stream: Annotated[bool, Form()] = False,
    timestamp_granularities: Annotated[
        list[Literal["word", "segment"]] | None, Form(alias="timestamp_granularities[]", max_length=8)
    ] = None,
    include: Annotated[list[str] | None, Form(alias="include[]", max_length=8)] = None,
    chunking_strategy: Annotated[str | None, Form(max_length=1000)] = None,
) -> Response:
    served = served_of(request)
    if language and (problem := language_problem(language)) is not None:
        raise ApiError(400, "unsupported_language", problem, "language")
    if "word" in (timestamp_granularities or []):
        raise ApiError(400, "invalid_value", "Times are known of segments, not of words.", "timestamp_granularities")
    if unknown := sorted(set(await request.form()) - FIELDS):
        name = unknown[0][:100]
        raise ApiError(400, "unknown_parameter", f"Unknown parameter: '{name}'.", name)
    refused = {
        "prompt": (bool((prompt or "").strip()), "these ears take none"),
        "temperature": (bool(temperature), "what is heard is never drawn by chance; leave it at 0"),
        "include": (bool(include), "log probabilities are not given"),
        "chunking_strategy": (chunking_strategy not in (None, "", "auto"), "recordings are cut at pauses; 'auto'"),
        "stream": (stream and response_format not in ("json", "text"), f"{response_format!r} comes as a whole"),
    }
    for name, (wanted, why) in refused.items():
        if wanted:
            raise unsupported(name, why)
    data = await file.read()
    try:
        samples = await asyncio.to_thread(sound.read, data, served.config.decoded_seconds)
    except AudioError as error:
        raise ApiError(400, "invalid_value", str(error), "file") from None
    seconds = len(samples) / RATE
    usage = {"type": "duration", "seconds": round(seconds, 3)}
    ahead, rest = await first(worked(served, lambda: _transcribed(served, samples)))
    if stream:

        async def events() -> AsyncIterator[str]:
            said = ""
            try:
                async for segment in chained(ahead, rest):
                    delta = (" " if said else "") + segment.text
                    said += delta
                    yield sse({"type": "transcript.text.delta", "delta": delta})
            except Exception as error:
                yield sse(shown_error(error))
                return
            yield sse({"type": "transcript.text.done", "text": said, "usage": usage})

        return StreamingResponse(events(), media_type="text/event-stream")
    segments = [segment async for segment in chained(ahead, rest)]
    text = " ".join(segment.text for segment in segments)
    if response_format == "text":
        return PlainTextResponse(text + "\n")
    if response_format in ("srt", "vtt"):
        return PlainTextResponse(as_subtitles(segments, response_format))
    if response_format == "json":
        return JSONResponse({"text": text, "usage": usage})
    shown = [segment.shown(number) for number, segment in enumerate(segments)]
    about = {"task": "transcribe", "language": "english", "duration": round(seconds, 3)}
    return JSONResponse({**about, "text": text, "segments": shown, "usage": usage})


def _transcribed(served: Served, samples: Tensor) -> Iterator[Segment | None]:
    for span in cut(samples, served.config.vad):
        yield from transcribe(served.backend, samples, span)


def sse(event: dict[str, Any]) -> str:
    """A server-sent event."""
    return f"data: {json.dumps(event, ensure_ascii=False)}\n\n"
