"""What a recognizer is asked for, and what it gives: words, their times and their language."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from antiphon.models.scene.scene import Scene

ENGLISH = "en"
UNSPACED = frozenset("zh ja th lo my yue".split())  # languages that are written without spaces between words

# Gives of each text how likely somebody says it, as a log probability, and the tokens that this is of.
Likelihoods = Callable[[Sequence[str]], Sequence[tuple[float, int]]]


@dataclass(frozen=True)
class HearingOptions:
    """How a turn or a recording is heard.

    Attributes:
        language: that is spoken, as Whisper's code; None to find out.
        expected: that is taken to be spoken where there is too little to tell, such as that of the turn before.
        translate: write English, whatever is spoken.
        words: give each word's times and confidence, for one more pass of the decoder.
        states: give how each word was heard (`Passage.spoken`), for such a pass as well.
        likelihoods: of what is said next in a conversation, to decide where the decoder wavers; None for those that the
            recognizer has, of what somebody says first.
    """

    language: str | None = None
    expected: str = ENGLISH
    translate: bool = False
    words: bool = False
    states: bool = False
    likelihoods: Likelihoods | None = None


@dataclass(frozen=True)
class Word:
    """A word that was said.

    Attributes:
        text: with the punctuation that belongs to it, without spaces around it.
        start, end: seconds from the beginning of the sound.
        confidence: 0 to 1, how sure the decoder is of its tokens, on average.
    """

    text: str
    start: float
    end: float
    confidence: float


@dataclass(frozen=True, eq=False)
class SpokenWords:
    """How words were heard, whatever they are.

    Attributes:
        texts: with the punctuation that belongs to each, without spaces around it.
        states: of each word the mean over its tokens of the decoder's hidden state, and of what its attention to the
            sound looked at meanwhile (the encoder's output, weighted by it), [words, 2 * width].
    """

    texts: tuple[str, ...]
    states: Tensor


@dataclass(frozen=True)
class Passage:
    """What was heard of a stretch of the sound that was written down as one.

    Attributes:
        text: what was said; "" for nothing.
        drafted: what the adapter alone heard.
        start, end: seconds.
        language: that is spoken, Whisper's code; None where nothing tells.
        words: if they were asked for.
        voiced: seconds of speech in it.
        spoken: how the words were heard, if that was asked for.
        confidence: 0 to 1, how sure the decoder is of its tokens, their geometric mean; 1 where none tells.
        no_speech: how likely the decoder takes it to be no speech at all, 0 to 1; None where none tells.
    """

    text: str
    drafted: str = ""
    start: float = 0.0
    end: float = 0.0
    language: str | None = None
    words: tuple[Word, ...] = ()
    voiced: float = 0.0
    spoken: SpokenWords | None = None
    confidence: float = 1.0
    no_speech: float | None = None


@dataclass(frozen=True)
class Heard:
    """What was said.

    Attributes:
        text: what was said, as one would write it.
        embeddings: what the language model reads instead of the text, [T, width]; None where it reads the text.
        drafted: what the adapter alone heard.
        language: that was spoken for longest, Whisper's code ("en"); None where nothing was said, or nothing tells.
        words: with times and confidence, if they were asked for.
        passages: the stretches that were written down one by one, with their times.
        duration: of the sound, seconds.
        scene: what else was heard; None where nothing listens for it, as a recognizer doesn't.
    """

    text: str
    embeddings: Tensor | None = None
    drafted: str = ""
    language: str | None = None
    words: tuple[Word, ...] = ()
    passages: tuple[Passage, ...] = ()
    duration: float = 0.0
    scene: Scene | None = None

    @classmethod
    def of(cls, passages: Sequence[Passage], duration: float = 0.0) -> Heard:
        """What passages of a sound of so many seconds say together."""
        spoken: Counter[str] = Counter()
        for passage in passages:
            if passage.text and passage.language:
                spoken[passage.language] += passage.voiced
        return cls(
            joined((passage.text, passage.language) for passage in passages),
            drafted=" ".join(passage.drafted for passage in passages if passage.drafted),
            language=max(spoken, key=spoken.__getitem__, default=None),
            words=tuple(word for passage in passages for word in passage.words),
            passages=tuple(passage for passage in passages if passage.text),
            duration=duration,
        )


def joined(texts: Iterable[tuple[str, str | None]]) -> str:
    """Texts, each with its language, one after the other: with spaces between them where the language has any."""
    whole = ""
    for text, language in texts:
        whole += (" " if whole and text and language not in UNSPACED else "") + text
    return whole
