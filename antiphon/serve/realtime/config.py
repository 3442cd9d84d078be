"""The configuration of an OpenAI Realtime session: what a client may set, checked, with the protocol's defaults.

The shapes are those of the GA protocol (`openai.types.realtime` in OpenAI's Python SDK). What this server can't do is
refused by name. Tracing and noise reduction, which clients ask for by default, are taken and shown as null.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from antiphon.dialogue.tool_calls import Functions
from antiphon.serve.errors import RequestError
from antiphon.serve.json_text import TEXT_LETTERS
from antiphon.serve.openai.options import VoiceId, check_spoken, check_unsupported, check_voice, spoken_in
from antiphon.serve.openai.tools import read_tools
from antiphon.serve.refusals import refusal

Model = TypeVar("Model", bound=BaseModel)
SCENE = "item.input_audio_scene"  # an extension: `include` it to be told what is heard besides the words
WORDS = "item.output_audio_words"  # another: to be told when the words of an answer are heard
EXTENSIONS = frozenset((SCENE, WORDS))


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Pcm(_Strict):
    type: Literal["audio/pcm"]
    rate: Literal[24000] = 24000


class Pcmu(_Strict):
    type: Literal["audio/pcmu"]


class Pcma(_Strict):
    type: Literal["audio/pcma"]


Format = Annotated[Pcm | Pcmu | Pcma, Field(discriminator="type")]


class ServerVad(_Strict):
    type: Literal["server_vad"]
    threshold: float = Field(0.5, ge=0, le=1)
    prefix_padding_ms: int = Field(300, ge=0, le=5000)
    silence_duration_ms: int = Field(500, ge=60, le=10000)
    create_response: bool = True
    interrupt_response: bool = True
    idle_timeout_ms: int | None = Field(None, ge=5000, le=30000)


class SemanticVad(_Strict):
    type: Literal["semantic_vad"]
    eagerness: Literal["low", "medium", "high", "auto"] = "auto"
    create_response: bool = True
    interrupt_response: bool = True


TurnDetection = Annotated[ServerVad | SemanticVad, Field(discriminator="type")]


class Transcription(_Strict):
    """Whichever model is named, the recognizer writes down what it heard."""

    model: str | None = Field(None, max_length=200)
    language: str | None = Field(None, max_length=64)
    prompt: str | None = Field(None, max_length=10_000)


class NoiseReduction(BaseModel):
    type: Literal["near_field", "far_field"] | None = None


class AudioIn(_Strict):
    format: Format | None = None
    transcription: Transcription | None = None
    noise_reduction: NoiseReduction | None = None
    turn_detection: TurnDetection | None = None


class AudioOut(_Strict):
    format: Format | None = None
    voice: str | VoiceId | None = None
    speed: float | None = Field(None, ge=0.25, le=1.5)


class AudioBoth(_Strict):
    input: AudioIn | None = None
    output: AudioOut | None = None


MaxTokens = Annotated[int, Field(ge=1, le=4096)] | Literal["inf"]
Modalities = Annotated[list[Literal["text", "audio"]], Field(min_length=1, max_length=2)]


Key = Annotated[str, Field(max_length=64)]
Value = Annotated[str, Field(max_length=512)]


class SessionChange(_Strict):
    """`session` of session.update."""

    type: Literal["realtime", "transcription"] = "realtime"
    object: str | None = None
    id: str | None = None
    expires_at: int | None = None
    model: str | None = None
    output_modalities: Modalities | None = None
    instructions: str | None = Field(None, max_length=TEXT_LETTERS)
    audio: AudioBoth | None = None
    tools: Annotated[list[dict[str, Any]], Field(max_length=128)] | None = None
    tool_choice: str | dict[str, Any] | None = None
    max_output_tokens: MaxTokens | None = None
    include: Annotated[list[str], Field(max_length=16)] | None = None
    parallel_tool_calls: bool | None = None
    prompt: dict[str, Any] | None = None
    reasoning: dict[str, Any] | None = None
    tracing: str | dict[str, Any] | None = None
    truncation: str | dict[str, Any] | None = None


class ResponseOut(_Strict):
    output: AudioOut | None = None


class ResponseChange(_Strict):
    """`response` of response.create."""

    audio: ResponseOut | None = None
    conversation: str | None = None
    input: Annotated[list[dict[str, Any]], Field(max_length=1000)] | None = None
    instructions: str | None = Field(None, max_length=TEXT_LETTERS)
    max_output_tokens: MaxTokens | None = None
    metadata: Annotated[dict[Key, Value], Field(max_length=16)] | None = None
    output_modalities: Modalities | None = None
    parallel_tool_calls: bool | None = None
    prompt: dict[str, Any] | None = None
    reasoning: dict[str, Any] | None = None
    tools: Annotated[list[dict[str, Any]], Field(max_length=128)] | None = None
    tool_choice: str | dict[str, Any] | None = None


def parse(kind: type[Model], given: Any, name: str) -> Model:
    """Checks what a client gave.

    Raises:
        RequestError: naming the field.
    """
    if not isinstance(given, dict):
        raise RequestError("invalid_type", f"Invalid type for '{name}': expected an object.", name)
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        raise refusal(error.errors(include_url=False), given, name) from None


def defaults(
    session_id: str, model: str, voice: str | None, expires_at: int, transcribe: bool = False
) -> dict[str, Any]:
    """A session as it is before the client changes anything; without a voice answers are written."""
    audio: dict[str, Any] = {
        "input": {
            "format": {"type": "audio/pcm", "rate": 24000},
            "transcription": {"model": model} if transcribe else None,
            "noise_reduction": None,
            "turn_detection": ServerVad(type="server_vad").model_dump(),
        },
        "output": {"format": {"type": "audio/pcm", "rate": 24000}, "voice": voice, "speed": 1.0},
    }
    return {
        "type": "transcription" if transcribe else "realtime",
        "object": "realtime.session",
        "id": session_id,
        "model": model,
        "output_modalities": ["audio"] if voice is not None else ["text"],
        "instructions": "",
        "tools": [],
        "tool_choice": "auto",
        "max_output_tokens": "inf",
        "tracing": None,
        "truncation": "auto",
        "prompt": None,
        "expires_at": expires_at,
        "audio": audio,
        "include": None,
    }


def updated(
    session: dict[str, Any],
    given: Any,
    voices: Sequence[str],
    spoken: bool,
    supports_tools: bool = False,
    languages: Collection[str] = ("en",),
) -> dict[str, Any]:
    """The session with a client's changes; what it doesn't name stays, and null turns a thing off.

    Args:
        session: stays as it is.
        given: of session.update.
        voices: that there are.
        spoken: the model has already spoken in this session: its voice can't change any more.
        supports_tools: the model can call functions.
        languages: codes of those that are understood.

    Raises:
        RequestError: nothing was changed.
    """
    change = parse(SessionChange, given, "session")
    functions_of(session, change, "session", supports_tools)
    check_change(change, "session", languages)
    check_spoken("audio" in (change.output_modalities or ()), voices, "session.output_modalities")
    new = copy.deepcopy(session)
    plain = change.model_dump(exclude_unset=True)
    for name in ("id", "object", "expires_at", "model", "tracing"):  # the server's own, or fixed by the connection
        plain.pop(name, None)
    audio = plain.pop("audio", None) or {}
    for name, value in plain.items():
        new[name] = value if value is not None or name in ("prompt", "include") else session.get(name)
    into, out = audio.get("input") or {}, audio.get("output") or {}
    for name, value in into.items():
        if name == "noise_reduction" or (name == "format" and value is None):
            continue
        if name == "turn_detection" and value is not None:  # with its defaults
            value = change.audio.input.turn_detection.model_dump()
        new["audio"]["input"][name] = value
    voice = voice_of(change.audio.output if change.audio is not None else None, voices, "session")
    if voice is not None:
        if spoken and voice != session["audio"]["output"]["voice"]:
            said = "The voice can't be changed once the assistant has spoken in this session."
            raise RequestError("cannot_update_voice", said, "session.audio.output.voice")
        out["voice"] = voice
    new["audio"]["output"].update({name: value for name, value in out.items() if value is not None})
    return new


def functions_of(
    session: dict[str, Any], change: SessionChange | ResponseChange, name: str, supports_tools: bool
) -> Functions | None:
    """What may be called after a change of a session, or in a response that differs from it; None for nothing.

    Args:
        session: as it was.
        change: of it, or for a response.
        name: "session" or "response".
        supports_tools: the model can call functions.

    Raises:
        RequestError: naming the field.
    """
    tools = session["tools"] if change.tools is None else change.tools
    choice = session["tool_choice"] if change.tool_choice is None and tools else change.tool_choice
    parallel = session.get("parallel_tool_calls") if change.parallel_tool_calls is None else change.parallel_tool_calls
    return read_tools(tools, choice, parallel, f"{name}.", supports_tools)


def check_change(change: SessionChange | ResponseChange, name: str, languages: Collection[str] = ()) -> None:
    """Raises RequestError for what would change what is heard, in one of these languages, or answered, and can't be
    done."""
    if change.output_modalities is not None and len(set(change.output_modalities)) > 1:
        said = "Ask for ['text'] or for ['audio'], which comes with its transcript; not for both."
        raise RequestError("invalid_value", said, f"{name}.output_modalities")
    refused = {
        "prompt": (change.prompt is not None, "no prompts are kept here; give 'instructions'"),
        "reasoning": (change.reasoning is not None, "this model doesn't reason"),
    }
    if isinstance(change, SessionChange):
        heard = change.audio.input if change.audio is not None else None
        asked = heard.transcription if heard is not None and heard.transcription is not None else Transcription()
        spoken_in(asked.language, f"{name}.audio.input.transcription.language", languages)
        forgets = "the oldest turns are forgotten when there is no more room; leave it at 'auto'"
        given = " and ".join(map(repr, sorted(EXTENSIONS)))
        refused |= {
            "include": (bool(set(change.include or ()) - EXTENSIONS), f"log probabilities are not given; {given} are"),
            "truncation": (change.truncation not in (None, "auto"), forgets),
            "audio.input.transcription.prompt": (bool((asked.prompt or "").strip()), "these ears take none"),
        }
    check_unsupported(refused, f"{name}.")


def voice_of(out: AudioOut | None, voices: Sequence[str], name: str) -> str | None:
    """The voice that is asked for, if one is. Raises RequestError if there is none of that name, or for a speed."""
    if out is None:
        return None
    if out.speed not in (None, 1.0):
        said = "The speed of live speech can't be changed; leave it at 1.0."
        raise RequestError("invalid_value", said, f"{name}.audio.output.speed")
    if out.voice is None:
        return None
    named = out.voice if isinstance(out.voice, str) else out.voice.id
    return check_voice(named, voices, f"{name}.audio.output.voice")
