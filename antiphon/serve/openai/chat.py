"""`/v1/chat/completions`: typed and recorded messages in, text and speech out."""

from __future__ import annotations

import asyncio
import base64
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
import torch
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from antiphon.audio import encode as sound
from antiphon.audio.pcm import RATE, BadAudio, from_base64, pcm16
from antiphon.dialogue.events import AudioEvent, CallEvent, Sampling, TextEvent
from antiphon.dialogue.half_duplex import Hearing, Message, StreamingReply
from antiphon.dialogue.tool_calls import Functions
from antiphon.errors import AudioError
from antiphon.serve.errors import RESPONSES, ApiError, shown_error
from antiphon.serve.json_text import TEXT_LETTERS
from antiphon.serve.openai.audio import check_voice, sse
from antiphon.serve.openai.bodies import BoundedRoute
from antiphon.serve.openai.chat_request import AudioOptions, ChatMessage, ChatRequest, check_options
from antiphon.serve.openai.http_tools import call_deltas, functions_of, read_calls, read_result, shown_call
from antiphon.serve.openai.models import served_of
from antiphon.serve.openai.stop_sequences import until_stop
from antiphon.serve.openai.tools import CANT
from antiphon.serve.state import Served
from antiphon.serve.work.http import chained, first, worked

router = APIRouter(prefix="/v1", responses=RESPONSES, route_class=BoundedRoute)

KEPT = 256  # spoken answers that later requests may refer to
WRITTEN_TOKENS = 256  # of a written answer, where nobody says how long it may be


class ChatCompletion(BaseModel):
    """An answer."""

    model_config = ConfigDict(extra="allow")

    id: str
    object: str
    created: int
    model: str
    choices: list[dict[str, Any]]
    usage: dict[str, Any] | None = None


Heard = Message | list[Tensor | str]  # a message, or the parts of one that has still to be heard


@router.post(
    "/chat/completions",
    summary="Answer a chat",
    response_model=ChatCompletion,
    responses={200: {"content": {"text/event-stream": {}}}},
)
async def chat(request: Request, asked: ChatRequest) -> Response:
    served = served_of(request)
    able = served.backend.calls_functions
    check_options(asked)
    functions = functions_of(asked.tools, asked.tool_choice, asked.parallel_tool_calls, asked.functions, able)
    spoken = asked.spoken
    options = asked.audio or AudioOptions()
    if spoken:
        check_voice(served, options.voice, "audio.voice")
        if asked.stream and options.format != "pcm16":
            raise ApiError(400, "unsupported_value", "A stream of sound has the format 'pcm16'.", "audio.format")
    instructions, past = await _read(served, asked.messages)
    answer_id = f"chatcmpl-{secrets.token_hex(12)}"
    stream = worked(served, lambda: _answered(served, past, instructions, asked, spoken, functions))
    ahead, rest = await first(stream, 2)  # the answer, and the first of its events: what can't be answered is no stream
    answer: StreamingReply = ahead.pop(0)
    rest = chained(ahead, rest)
    base = {"id": answer_id, "created": int(time.time()), "model": asked.model or served.backend.name}
    audio_id = f"audio_{secrets.token_hex(12)}"
    if asked.stream:
        events = _streamed(
            served,
            answer,
            rest,
            base,
            audio_id,
            spoken,
            bool(asked.stream_options and asked.stream_options.include_usage),
        )
        return StreamingResponse(events, media_type="text/event-stream")
    text, pieces, calls = "", [], []
    async for event in rest:
        if isinstance(event, TextEvent):
            text += event.text
        elif isinstance(event, AudioEvent):
            pieces.append(event.audio.samples.numpy())
        elif isinstance(event, CallEvent):
            calls.append(shown_call(event.call))
    message: dict[str, Any] = {"role": "assistant", "content": text.strip(), "refusal": None, "annotations": []}
    if calls:
        message["tool_calls"] = calls
        message["content"] = text.strip() or None
    if spoken and (text or not calls):
        kind = "pcm" if options.format == "pcm16" else options.format
        data = await asyncio.to_thread(_file, pieces, kind)
        message["content"] = None
        message["audio"] = _kept(served, audio_id, text.strip()) | {"data": base64.b64encode(data).decode()}
    choice = {"index": 0, "message": message, "finish_reason": _why(answer, bool(calls)), "logprobs": None}
    usage = _usage(answer, sum(map(len, pieces)))
    return JSONResponse({**base, "object": "chat.completion", "choices": [choice], "usage": usage})


async def _read(served: Served, messages: list[ChatMessage]) -> tuple[str, list[Heard]]:
    """(instructions, past): what the system says first is the instructions; recordings are decoded, not heard yet."""
    instructions: list[str] = []
    past: list[Heard] = []
    left, able = served.config.decoded_seconds, served.backend.calls_functions
    for number, message in enumerate(messages):
        where = f"messages[{number}]"
        if message.role == "function":
            said = "Roles of functions have become 'tool'." if able else f"{CANT}."
            raise ApiError(400, "tools_not_supported", said, f"{where}.role")
        parts: list[Tensor | str] = [message.content] if isinstance(message.content, str) else []
        for at, part in enumerate(message.content if isinstance(message.content, list) else []):
            if part.type == "input_audio" and part.input_audio is not None and message.role == "user":
                try:
                    data = await asyncio.to_thread(from_base64, part.input_audio.data)
                except BadAudio as error:
                    raise ApiError(
                        400, "invalid_value", f"{error}.", f"{where}.content[{at}].input_audio.data"
                    ) from None
                try:
                    samples = await asyncio.to_thread(sound.read, data, left, part.input_audio.format)
                except AudioError as error:
                    where = f"{where}.content[{at}].input_audio.data"
                    raise ApiError(400, "invalid_value", str(error), where) from None
                left = max(0.0, left - len(samples) / RATE)
                parts.append(samples)
            elif part.type in ("text", "refusal") and part.text is not None:
                parts.append(part.text)
            else:
                raise ApiError(
                    400, "invalid_value", f"A part of type '{part.type}' can't be read here.", f"{where}.content[{at}]"
                )
        if message.audio is not None:
            said = served.spoken.get(message.audio.id)
            if said is None:
                raise ApiError(
                    400, "invalid_value", "That sound is not kept any more; send its transcript.", f"{where}.audio.id"
                )
            parts.append(said)
        role = "system" if message.role == "developer" else message.role
        text = " ".join(part for part in parts if isinstance(part, str))
        if len(text) > TEXT_LETTERS:
            said = f"Invalid '{where}.content': a message has at most {TEXT_LETTERS} letters."
            raise ApiError(400, "string_above_max_length", said, f"{where}.content")
        if role == "tool":
            past.append(read_result(text, message.tool_call_id, past, where, able))
        elif role == "assistant" and message.tool_calls:
            past.append(read_calls(message.tool_calls, text, where, able))
        elif role == "system" and not past:
            instructions += [part for part in parts if isinstance(part, str)]
        elif all(isinstance(part, str) for part in parts):
            past.append(Message(role, text))
        else:
            past.append(parts)
    return "\n".join(instructions), past


def _answered(
    served: Served,
    past: list[Heard],
    instructions: str,
    asked: ChatRequest,
    spoken: bool,
    functions: Functions | None,
) -> Iterator[Any]:
    """On the workers: hears the recordings, then gives the answer itself and its events."""
    messages = []
    for heard in past:
        if isinstance(heard, Message):
            messages.append(heard)
            continue
        words: list[str] = []
        only: Hearing | None = None
        for part in heard:
            if isinstance(part, str):
                words.append(part)
                continue
            listener = served.backend.listen()
            yield None
            for block in part.split(RATE):
                listener.step(block)
                yield None
            only = listener.finish()
            words.append(only.text)
        text = " ".join(filter(None, words))
        alone = only is not None and len(heard) == 1
        messages.append(Message("user", text, only.embeddings if alone and only is not None else None))
    most = asked.max_completion_tokens or asked.max_tokens
    how = Sampling(
        seed=(asked.seed or 0) % 2**63,
        think_temperature=asked.temperature or 0.0,
        think_top_k=40,
        max_tokens=min(most or (Sampling.max_tokens if spoken and functions is None else WRITTEN_TOKENS), 512),
    )
    answer = served.backend.chat().answer(messages, how, instructions or None, spoken, functions)
    yield answer
    yield from until_stop(answer.events(), asked.stops) if asked.stops else answer.events()


async def _streamed(
    served: Served,
    answer: StreamingReply,
    events: AsyncIterator[Any],
    base: dict[str, Any],
    audio_id: str,
    spoken: bool,
    count: bool,
) -> AsyncIterator[str]:
    def chunk(delta: dict[str, Any], finish: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        body = {**base, "object": "chat.completion.chunk", "choices": [choice]}
        return sse(body | ({"usage": None} if count else {}))

    text, samples, calls = "", 0, 0
    yield chunk({"role": "assistant", "content": None if spoken else "", "refusal": None})
    try:
        async for event in events:
            if isinstance(event, TextEvent):
                text += event.text
                yield chunk(
                    {"audio": {"id": audio_id, "transcript": event.text}} if spoken else {"content": event.text}
                )
            elif isinstance(event, AudioEvent):
                piece = event.audio.samples.numpy()
                samples += len(piece)
                yield chunk({"audio": {"id": audio_id, "data": base64.b64encode(pcm16(piece)).decode()}})
            elif isinstance(event, CallEvent):
                for delta in call_deltas(event.call, calls):
                    yield chunk(delta)
                calls += 1
    except Exception as error:
        yield sse(shown_error(error))
        return
    if spoken and (text or not calls):
        kept = _kept(served, audio_id, text.strip())
        yield chunk({"audio": {"id": audio_id, "expires_at": kept["expires_at"]}})
    yield chunk({}, _why(answer, calls > 0))
    if count:
        yield sse({**base, "object": "chat.completion.chunk", "choices": [], "usage": _usage(answer, samples)})
    yield "data: [DONE]\n\n"


def _kept(served: Served, audio_id: str, text: str) -> dict[str, Any]:
    """Keeps what was said, so that a later request can refer to it."""
    served.spoken[audio_id] = text
    while len(served.spoken) > KEPT:
        del served.spoken[next(iter(served.spoken))]
    return {"id": audio_id, "transcript": text, "expires_at": int(time.time()) + 3600}


def _file(pieces: list[np.ndarray], kind: str) -> bytes:
    if kind == "wav":  # whole: with its length
        import io

        import soundfile

        whole = np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
        buffer = io.BytesIO()
        soundfile.write(buffer, torch.from_numpy(whole).clamp(-1, 1).numpy(), RATE, format="WAV", subtype="PCM_16")
        return buffer.getvalue()
    return b"".join(sound.written(iter(pieces), kind))


def _why(answer: StreamingReply, calls: bool) -> str:
    return "length" if answer.cut else "tool_calls" if calls else "stop"


def _usage(answer: StreamingReply, samples: int) -> dict[str, Any]:
    used, audio = answer.usage, round(samples / RATE / 0.08)
    return {
        "prompt_tokens": used.input,
        "completion_tokens": used.output + audio,
        "total_tokens": used.input + used.output + audio,
        "prompt_tokens_details": {"cached_tokens": used.cached, "audio_tokens": used.heard},
        "completion_tokens_details": {
            "audio_tokens": audio,
            "reasoning_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
