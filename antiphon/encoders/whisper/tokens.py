"""What Whisper's tokenizer knows besides words: its languages, its tasks, and what each begins with.

tokens = WhisperTokens(Tokenizer.from_file("tokenizer.json"))
tokens.languages                              # {"en": 50259, "zh": 50260, ...}
tokens.start("ru"), tokens.start("ru", "translate")
"""

from __future__ import annotations

import re
from typing import Literal

from tokenizers import Tokenizer

START, TRANSCRIBE, TRANSLATE, NO_TIMES, END = (
    f"<|{name}|>" for name in ("startoftranscript", "transcribe", "translate", "notimestamps", "endoftext")
)
NO_SPEECH = ("<|nospeech|>", "<|nocaptions|>")  # today's name, and that of the first models
_LANGUAGE = re.compile(r"<\|([a-z]{2,3})\|>")

Task = Literal["transcribe", "translate"]


class WhisperTokens:
    """Whisper's special tokens, by their names: their numbers differ from model to model.

    Args:
        tokenizer: of a Whisper.

    Attributes:
        languages: the token of each language's code, in the model's order; {} for a tokenizer of something else and for
            a Whisper of English alone.
        end, no_speech: tokens; None where there are none.
        foreign: tokens of text that are not plain ASCII: unsure of a word of English, Whisper now and then goes on in
            another script.
    """

    def __init__(self, tokenizer: Tokenizer):
        vocabulary = tokenizer.get_vocab()
        self._ids = {name: vocabulary.get(name) for name in (START, TRANSCRIBE, TRANSLATE, NO_TIMES)}
        found = {match[1]: index for token, index in vocabulary.items() if (match := _LANGUAGE.fullmatch(token))}
        self.languages = dict(sorted(found.items(), key=lambda item: item[1]))
        self.end: int | None = vocabulary.get(END)
        self.no_speech: int | None = next((vocabulary[name] for name in NO_SPEECH if name in vocabulary), None)
        # In byte-level vocabularies every byte but printable ASCII is written as a character above U+007F; "\u0120" is
        # the space.
        self.foreign = tuple(
            sorted(
                index
                for token, index in vocabulary.items()
                if (self.end is None or index < self.end) and any(c > "\x7f" and c != "\u0120" for c in token)
            )
        )

    def start(self, language: str = "en", task: Task = "transcribe") -> tuple[int, ...]:
        """What a transcript without times begins with, in a language or, translated, from one.

        Raises:
            KeyError: a language or a task that this Whisper doesn't have.
        """
        begin, how, plain = (self._ids[name] for name in (START, f"<|{task}|>", NO_TIMES))
        if begin is None or how is None or plain is None:
            raise KeyError(task)
        return begin, self.languages[language], how, plain


def whisper_tokens(tokenizer: Tokenizer, text: str) -> list[int]:
    """A text as Whisper writes it: with a space before it."""
    return tokenizer.encode(" " + text.strip(), add_special_tokens=False).ids if text.strip() else []
