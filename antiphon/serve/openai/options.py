"""Options that chats, speech, transcriptions and Realtime sessions share: voices, languages, and what can't be had."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from pydantic import BaseModel, ConfigDict, Field

from antiphon.errors import ModelError
from antiphon.models.asr.language import language_code
from antiphon.serve.errors import RequestError, unsupported

OPENAI_VOICES = tuple("alloy ash ballad cedar coral echo fable marin nova onyx sage shimmer verse".split())


class VoiceId(BaseModel):
    """A voice, named in the other way that OpenAI has for it."""

    model_config = ConfigDict(extra="forbid")

    id: str = Field(max_length=200)


def check_voice(named: str, voices: Sequence[str], param: str) -> str:
    """The voice. OpenAI's names are taken for the default one, so that clients that name one get an answer.

    Raises:
        RequestError: there is none of that name.
    """
    if named not in voices and named not in OPENAI_VOICES:
        said = f"Unknown voice '{named[:100]}'; there are: {', '.join(voices)}."
        raise RequestError("invalid_value", said, param)
    return named


def own_voice(named: str | None, voices: Sequence[str]) -> str | None:
    """The model's voice for one that `check_voice` took; None for the default one."""
    return named if named in voices else None


def check_spoken(wanted: bool, voices: Sequence[str], param: str) -> None:
    """Raises RequestError if sound is wanted of a model that can't speak."""
    if wanted and not voices:
        raise RequestError("invalid_value", "This model has no voice: it can only write. Ask for ['text'].", param)


def spoken_in(tag: str | None, param: str, languages: Collection[str]) -> str | None:
    """The code of the language that a client names, of those that are understood; None where it names none.

    >>> [spoken_in(tag, "language", ("en", "ru")) for tag in ("en-US", "EN_gb", "Russian", "rus", "", None)]
    ['en', 'en', 'ru', 'ru', None, None]

    Raises:
        RequestError: it isn't understood.
    """
    if not tag:
        return None
    try:
        return language_code(tag, languages)
    except ModelError:
        there = ", ".join(map(repr, languages))
        said = f"Unsupported language: {tag[:40]!r}. Supported languages are: {there}."
        raise RequestError("unsupported_language", said, param) from None


def check_unsupported(refused: Mapping[str, tuple[bool, str]], where: str = "") -> None:
    """Raises RequestError for the first of the options that is asked for; {its name: (it is, why it can't be had)}."""
    for name, (asked, why) in refused.items():
        if asked:
            raise unsupported(f"{where}{name}", why)
