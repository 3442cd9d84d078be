"""`/v1/audio/speech`, `transcriptions` and `translations`: OpenAI's routes for reading aloud and writing down."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, File, Form, Request, Response, UploadFile
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from antiphon.audio import encode as sound
from antiphon.audio.pcm import RATE
from antiphon.dialogue.events import Sampling
from antiphon.errors import AudioError, UnsayableError
from antiphon.models.asr import segments
from antiphon.models.asr.heard import ENGLISH, Heard, HearingOptions, Passage, joined
from antiphon.serve.errors import RequestError, explained, unsupported
from antiphon.serve.openai.bodies import BoundedRoute
from antiphon.serve.openai.errors import RESPONSES
from antiphon.serve.openai.models import served_of
from antiphon.serve.openai.options import VoiceId, check_spoken, check_unsupported, check_voice, own_voice, spoken_in
from antiphon.serve.state import Served
from antiphon.serve.work.http import begun, stream_steps

router = APIRouter(prefix="/v1/audio", responses=RESPONSES, route_class=BoundedRoute)

BLOCK = RATE // 2  # samples of a recording that are heard in one step
FIELDS = frozenset(
    "file model language prompt response_format temperature stream timestamp_granularities[] include[] "
    "chunking_strategy".split()
)  # of a transcription


class SpeechRequest(BaseModel):
    """Text to be read aloud.

    Attributes:
        stream_format: the file's bytes as they are made ("audio"), or server-sent events with base64 of them ("sse").
    """

    model_config = ConfigDict(extra="forbid")

    model: str = Field("", max_length=200)
    input: str = Field(min_length=1)
    voice: str | VoiceId | None = None
    response_format: sound.Format = "mp3"
    speed: float = Field(1.0, ge=0.25, le=4.0)
    stream_format: Literal["audio", "sse"] = "audio"
    instructions: str | None = None


class Voice(BaseModel):
    """One that reads aloud."""

    id: str
    name: str


class VoiceList(BaseModel):
    """Those that there are, the first one being used where none is named."""

    voices: list[Voice]


@router.get("/voices", summary="The voices")
async def list_voices(request: Request) -> VoiceList:
    """OpenAI has no such list; clients that let their users choose a voice (Open WebUI) ask for this one."""
    return VoiceList(voices=[Voice(id=name, name=name) for name in served_of(request).backend.voices])


@router.post(
    "/speech",
    summary="Read a text aloud",
    response_class=StreamingResponse,
    responses={200: {"content": {kind: {} for kind in (*sound.MEDIA.values(), "text/event-stream")}}},
)
async def speech(request: Request, asked: SpeechRequest) -> Response:
    served = served_of(request)
    if len(asked.input) > served.config.text_letters:
        limit = f"Expected a string with maximum length {served.config.text_letters}"
        said = f"Invalid 'input': string too long. {limit}, but got one with length {len(asked.input)} instead."
        raise RequestError("string_above_max_length", said, "input")
    voices = served.backend.voices
    check_spoken(True, voices, "model")
    voice = asked.voice.id if isinstance(asked.voice, VoiceId) else asked.voice
    if voice is not None:
        check_voice(voice, voices, "voice")
    if (asked.instructions or "").strip():
        raise unsupported("instructions", "this voice takes none")

    frames = 0

    def steps() -> Iterator[bytes]:
        yield from sound.written(pieces(), asked.response_format, asked.speed)

    def pieces() -> Iterator[np.ndarray]:
        nonlocal frames
        try:
            for audio in served.backend.say(asked.input, Sampling(voice=own_voice(voice, voices))):
                frames += 1
                yield audio.samples.numpy()
        except UnsayableError as error:
            raise RequestError("invalid_value", str(error), "input") from None

    stream = await begun(stream_steps(served, steps))
    if asked.stream_format == "audio":
        return StreamingResponse(stream, media_type=sound.MEDIA[asked.response_format])

    async def events() -> AsyncIterator[str]:
        try:
            async for data in stream:
                yield sse({"type": "speech.audio.delta", "audio": base64.b64encode(data).decode()})
        except Exception as error:
            yield sse({"error": explained(error).shown()})
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
    words: list[dict[str, Any]] | None = None


WRITTEN: dict[str, Any] = {
    "response_model": Transcription,
    "response_model_exclude_none": True,
    "responses": {200: {"content": {"text/plain": {}, "text/event-stream": {}}}},
}
Recording = Annotated[UploadFile, File(description="A sound file of any usual format and any length.")]
Named = Annotated[str, Form(max_length=200)]
Prompt = Annotated[str | None, Form(max_length=10_000)]
Written = Annotated[segments.Format, Form()]
Temperature = Annotated[float | None, Form(ge=0, le=1)]


@router.post("/transcriptions", summary="Write down what is said", **WRITTEN)
async def transcriptions(
    request: Request,
    file: Recording,
    model: Named = "",
    language: Annotated[str | None, Form(max_length=64)] = None,
    prompt: Prompt = None,
    response_format: Written = "json",
    temperature: Temperature = None,
    stream: Annotated[bool, Form()] = False,
    timestamp_granularities: Annotated[
        list[segments.Granularity] | None, Form(alias="timestamp_granularities[]", max_length=8)
    ] = None,
    include: Annotated[list[str] | None, Form(alias="include[]", max_length=8)] = None,
    chunking_strategy: Annotated[str | None, Form(max_length=1000)] = None,
) -> Response:
    served = served_of(request)
    told = spoken_in(language, "language", served.backend.languages)
    if "word" in (timestamp_granularities or ()) and response_format != "verbose_json":
        said = "Times of words are given in 'verbose_json' alone."
        raise RequestError("invalid_value", said, "timestamp_granularities")
    await _check_fields(request, FIELDS)
    check_unsupported(
        {
            **_refused(prompt, temperature),
            "include": (bool(include), "log probabilities are not given"),
            "chunking_strategy": (chunking_strategy not in (None, "", "auto"), "recordings are cut at pauses; 'auto'"),
            "stream": (stream and response_format not in ("json", "text"), f"{response_format!r} comes as a whole"),
        }
    )
    options = HearingOptions(told, words=response_format not in ("json", "text"))
    passages = await begun(stream_steps(served, _steps(served, await file.read(), options)))
    if stream:
        return StreamingResponse(_deltas(passages), media_type="text/event-stream")
    return await _whole(passages, response_format, timestamp_granularities or ["segment"], "transcribe")


@router.post("/translations", summary="Write down in English what is said", **WRITTEN)
async def translations(
    request: Request,
    file: Recording,
    model: Named = "",
    prompt: Prompt = None,
    response_format: Written = "json",
    temperature: Temperature = None,
) -> Response:
    served = served_of(request)
    if len(served.backend.languages) < 2:
        raise RequestError("invalid_value", "This model understands English alone.", "model")
    await _check_fields(request, frozenset("file model prompt response_format temperature".split()))
    check_unsupported(_refused(prompt, temperature))
    options = HearingOptions(translate=True, words=response_format not in ("json", "text"))
    passages = await begun(stream_steps(served, _steps(served, await file.read(), options)))
    return await _whole(passages, response_format, ["segment"], "translate")


async def _check_fields(request: Request, known: frozenset[str]) -> None:
    """Raises RequestError for a field that isn't known."""
    if unknown := sorted(set(await request.form()) - known):
        name = unknown[0][:100]
        raise RequestError("unknown_parameter", f"Unknown parameter: '{name}'.", name)


def _refused(prompt: str | None, temperature: float | None) -> dict[str, tuple[bool, str]]:
    """Options that can't be had, for `check_unsupported`."""
    return {
        "prompt": (bool((prompt or "").strip()), "these ears take none"),
        "temperature": (bool(temperature), "what is heard is never drawn by chance; leave it at 0"),
    }


@dataclass(frozen=True)
class _Over:
    """The recording is over after so many seconds."""

    seconds: float

    @property
    def usage(self) -> dict[str, Any]:
        return {"type": "duration", "seconds": round(self.seconds, 3)}


def _steps(served: Served, data: bytes, options: HearingOptions) -> Callable[[], Iterator[Passage | _Over | None]]:
    """Hears a recording as it is decoded: None for each step of work, passages as they are written, then the end."""

    def steps() -> Iterator[Passage | _Over | None]:
        listener, heard, known = served.backend.listen(options, live=False), 0, 0
        yield None
        try:
            for block in sound.pieces(data, served.config.file_seconds):
                heard += len(block)
                for part in block.split(BLOCK):
                    listener.step(part)
                    yield None
                    found = listener.passages()
                    yield from (passage for passage in found[known:] if passage.text)
                    known = len(found)
        except AudioError as error:
            raise RequestError("invalid_value", str(error), "file") from None
        before = sum(1 for passage in listener.passages() if passage.text)
        yield from listener.finish().passages[before:]
        yield _Over(heard / RATE)

    return steps


async def _deltas(found: AsyncIterator[Passage | _Over]) -> AsyncIterator[str]:
    """Server-sent events of a transcription that is under way."""
    said = ""
    try:
        async for one in found:
            if isinstance(one, _Over):
                yield sse({"type": "transcript.text.done", "text": said, "usage": one.usage})
            else:
                delta = joined([(said, None), (one.text, one.language)])[len(said) :]
                said += delta
                yield sse({"type": "transcript.text.delta", "delta": delta})
    except Exception as error:
        yield sse({"error": explained(error).shown()})


async def _whole(
    found: AsyncIterator[Passage | _Over],
    form: segments.Format,
    granularities: Sequence[segments.Granularity],
    task: str,
) -> Response:
    """A transcription at once."""
    passages, over = [], _Over(0.0)
    async for one in found:
        if isinstance(one, _Over):
            over = one
        else:
            passages.append(one)
    written, heard = segments.segments(passages), Heard.of(passages)
    if form == "json":
        return JSONResponse({"text": heard.text, "usage": over.usage})
    if form != "verbose_json":
        return PlainTextResponse(segments.written(written, form, over.seconds))
    language = ENGLISH if task == "translate" else heard.language
    shown = segments.verbose(written, over.seconds, language, granularities, task)
    return JSONResponse({**shown, "usage": over.usage})


def sse(event: dict[str, Any]) -> str:
    """A server-sent event."""
    return f"data: {json.dumps(event, ensure_ascii=False)}\n\n"
