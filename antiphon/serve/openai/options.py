"""Options that chats, speech, transcriptions and Realtime sessions share: voices, languages, and what can't be had."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict, Field

from antiphon.serve.errors import RequestError, unsupported

OPENAI_VOICES = tuple("alloy ash ballad cedar coral echo fable marin nova onyx sage shimmer verse".split())
LANGUAGES = {"en": ("en", "eng", "english")}  # how each is called, without what follows of region or script
TAG = re.compile(r"([A-Za-z]{2,8})([-_][A-Za-z0-9]{1,8})*")  # BCP 47; some write "_"


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


def check_language(tag: str | None, param: str) -> None:
    """Raises RequestError unless it is a language that is understood, or none is named.

    >>> for tag in ("en", "en-US", "EN_gb", "English", None): check_language(tag, "language")
    """
    if not tag:
        return
    found = TAG.fullmatch(tag)
    if found is None or not any(found[1].lower() in names for names in LANGUAGES.values()):
        there = ", ".join(map(repr, LANGUAGES))
        said = f"Unsupported language: {tag[:40]!r}. Supported languages are: {there}."
        raise RequestError("unsupported_language", said, param)


def check_unsupported(refused: Mapping[str, tuple[bool, str]], where: str = "") -> None:
    """Raises RequestError for the first of the options that is asked for; {its name: (it is, why it can't be had)}."""
    for name, (asked, why) in refused.items():
        if asked:
            raise unsupported(f"{where}{name}", why)
