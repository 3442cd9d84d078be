"""What `/v1/chat/completions` takes; and of what OpenAI takes, what it refuses rather than pass it over."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from antiphon.serve.errors import RequestError
from antiphon.serve.json_text import TEXT_LETTERS
from antiphon.serve.openai.options import check_unsupported
from antiphon.serve.openai.response_format import ResponseFormat
from antiphon.serve.openai.tools import ToolCall

Text = Annotated[str, Field(max_length=TEXT_LETTERS)]
StopSequence = Annotated[str, Field(min_length=1, max_length=256)]
TokenId = Annotated[int, Field(ge=0, lt=2**31)]
Bias = Annotated[float, Field(ge=-100, le=100)]
MAX_CHOICES = 8  # of one request: they are made one after the other


class InputAudio(BaseModel):
    """A recording: base64 of a file, or of 16-bit samples at 24 kHz."""

    data: str
    format: Literal["wav", "mp3", "flac", "ogg", "opus", "m4a", "aac", "webm", "pcm16"] = "wav"


class SeenUrl(BaseModel):
    """A picture or a video, as a data URL; what `detail` asks for is the model's own affair."""

    url: str
    detail: str | None = Field(None, max_length=50)


class Part(BaseModel):
    """A part of a message; `video_url` as other servers of Qwen's models take it."""

    type: str = Field(max_length=50)
    text: Text | None = None
    input_audio: InputAudio | None = None
    image_url: SeenUrl | None = None
    video_url: SeenUrl | None = None

    @property
    def shown(self) -> tuple[Literal["image", "video"], str] | None:
        """What it shows, if it shows anything: of which kind, and its URL."""
        if self.type == "image_url" and self.image_url is not None:
            return "image", self.image_url.url
        if self.type == "video_url" and self.video_url is not None:
            return "video", self.video_url.url
        return None


class AudioReference(BaseModel):
    """An earlier spoken answer."""

    id: str = Field(max_length=100)


class ChatMessage(BaseModel):
    """A message."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Text | Annotated[list[Part], Field(max_length=100)] | None = None
    audio: AudioReference | None = None
    tool_calls: Annotated[list[ToolCall], Field(max_length=100)] | None = None
    tool_call_id: str | None = Field(None, max_length=128)


class AudioOptions(BaseModel):
    """How the answer is to sound."""

    voice: str | None = Field(None, max_length=100)
    format: Literal["wav", "mp3", "flac", "opus", "aac", "pcm16"] = "wav"


class StreamOptions(BaseModel):
    include_usage: bool = False
    include_obfuscation: bool | None = None  # a pad against who looks at lengths: there is none


class ChatRequest(BaseModel):
    """A chat.

    What changes nothing of an answer (`user`, `metadata`, `service_tier` and the like) is taken. What would change it
    and can't be done is refused, unless it is what is done anyway: see `check_options`.
    """

    model_config = ConfigDict(extra="forbid")

    model: str = Field("", max_length=200)
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=1000)]
    modalities: Annotated[list[Literal["text", "audio"]], Field(max_length=2)] | None = None
    audio: AudioOptions | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1, le=4096)
    max_completion_tokens: int | None = Field(None, ge=1, le=4096)
    temperature: float | None = Field(None, ge=0, le=2)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: StopSequence | Annotated[list[StopSequence], Field(max_length=4)] | None = None
    tools: Annotated[list[dict[str, Any]], Field(max_length=128)] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    functions: Annotated[list[dict[str, Any]], Field(max_length=128)] | None = None
    top_p: float | None = Field(None, ge=0, le=1)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    response_format: ResponseFormat | None = None
    n: int | None = Field(None, ge=1, le=MAX_CHOICES)
    logit_bias: Annotated[dict[TokenId, Bias], Field(max_length=1024)] | None = None
    # refused if they ask for something
    function_call: str | dict[str, Any] | None = None
    reasoning_effort: str | None = Field(None, max_length=50)
    verbosity: str | None = Field(None, max_length=50)
    store: bool | None = None
    web_search_options: dict[str, Any] | None = None
    moderation: dict[str, Any] | None = None
    # taken
    metadata: dict[str, Any] | None = None
    user: str | None = Field(None, max_length=512)
    safety_identifier: str | None = Field(None, max_length=512)
    prompt_cache_key: str | None = Field(None, max_length=512)
    prompt_cache_retention: str | None = Field(None, max_length=50)
    prompt_cache_options: dict[str, Any] | None = None
    service_tier: str | None = Field(None, max_length=50)
    prediction: dict[str, Any] | None = None  # of the answer, which it may only make quicker

    @property
    def spoken(self) -> bool:
        """The answer is to be heard."""
        return "audio" in (self.modalities or [])

    @property
    def stops(self) -> list[str]:
        """Stop sequences."""
        return [self.stop] if isinstance(self.stop, str) else self.stop or []


def check_options(asked: ChatRequest, structured: bool) -> None:
    """Raises RequestError for an option that can't be had, unless it is set to what is done anyway.

    Args:
        asked: what for.
        structured: of the backend.
    """
    formed = asked.response_format is not None and asked.response_format.type != "text"
    calls, unable = bool(asked.tools or asked.functions), "this model's answers are plain text"
    check_unsupported(
        {
            "n": ((asked.n or 1) > 1 and asked.spoken, "only 1 answer is spoken; leave it at 1"),
            "logprobs": (bool(asked.logprobs) and not structured, unable),
            "response_format": (formed and not structured, unable),
            "logit_bias": (bool(asked.logit_bias) and not structured, unable),
            "function_call": (asked.function_call not in (None, "auto", "none"), "it has become 'tool_choice'"),
            "reasoning_effort": (asked.reasoning_effort not in (None, "none"), "this model doesn't reason"),
            "verbosity": (asked.verbosity not in (None, "medium"), "leave it at 'medium'"),
            "store": (bool(asked.store), "answers are not stored"),
            "web_search_options": (asked.web_search_options is not None, "nothing is searched"),
            "moderation": (asked.moderation is not None, "nothing is moderated"),
            "stop": (bool(asked.stops) and asked.spoken, "a spoken answer can't be stopped by its text"),
            "stream_options": (asked.stream_options is not None and not asked.stream, "it is for 'stream': true"),
        }
    )
    check_unsupported(
        {
            "response_format": (formed and (asked.spoken or calls), "not for a spoken answer, nor beside tools"),
            "logprobs": (bool(asked.logprobs) and (asked.spoken or calls), "not of a spoken answer, nor beside tools"),
        }
    )
    if asked.top_logprobs and not asked.logprobs:
        raise RequestError("invalid_value", "'top_logprobs' is for 'logprobs': true.", "top_logprobs")
