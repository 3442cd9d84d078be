"""What the assistant is measured on; none of it was ever trained on.

- Questions of the "dev" split, spoken by three voices that no training set has (made once, then kept).
- The easy questions of `easy_questions.jsonl`, and questions of public sets, spoken by the same voices.
- Questions of general knowledge and follow-ups (`knowledge_questions.jsonl`, `follow_ups.jsonl`), typed.
- Asterisk's prompts: a real person, from Debian's packages.
- Sentences of an assistant, "dev" split, and those of `hard_sentences.jsonl`, spoken by the teacher of our voice.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from antiphon.audio.io import Audio
from antiphon.errors import DataError
from antiphon.evals.rows import spread

HARD_SENTENCES = Path(__file__).parent / "hard_sentences.jsonl"
# Voices that are kept out of training, with their share of a test set.
HELD_OUT = (("joe", 3), ("kokoro:jm_kumo", 2), ("kokoro:jf_tebukuro", 1))
MAX_CHARACTERS = 250  # that a voice says at once: Kokoro takes 500 phonemes
PAUSE_SECONDS = 0.3
MAX_SECONDS = 30.0  # what Whisper, the reference, hears at once; one prompt (a jest of 73 s) is longer


@dataclass(frozen=True)
class Clip:
    """Something said, with its words.

    Attributes:
        id: names it in the kept details.
        text: what is said.
        audio: the sound.
        voice: who says it.
    """

    id: str
    text: str
    audio: Audio
    voice: str


def shares(count: int) -> list[tuple[str, int]]:
    """How many of `count` utterances each held-out voice speaks; the last takes what is left over."""
    whole = sum(share for _, share in HELD_OUT)
    counts = [count * share // whole for _, share in HELD_OUT]
    counts[-1] += count - sum(counts)
    return [(voice, n) for (voice, _), n in zip(HELD_OUT, counts, strict=True)]


def unseen_questions(folder: Path, texts: Path | None, n: int = 300) -> list[Clip]:
    """Questions of the dev split by the held-out voices.

    Args:
        folder: the set; made here from `texts` where it is missing (then with 300 questions, whatever `n` is).
        texts: folder with the text sources (`questions.jsonl.gz`, ...), or None.
        n: how many.

    Raises:
        DataError: no set, and no texts to make it from.
    """
    if not (folder / "manifest.jsonl").is_file():
        if texts is None:
            raise DataError(
                f"{folder} has no test questions, and there are no texts to make them from. Give the folder of "
                "the text sources: --texts FOLDER."
            )
        from antiphon.data.speech.speak import mixed_sentences

        sentences = mixed_sentences(texts, {"user": 1.0}, "dev", words=(3, 32), questions=True)
        for voice, count in shares(300):
            _speak(sentences, folder, voice, count)
    return spread(_clips(folder), n)


def spoken(texts: Sequence[str], folder: Path) -> list[Clip]:
    """These texts by the held-out voices, in their order; kept in `folder`, where only what is new gets made.

    A text's voice follows from its hash, so that a set can grow and shrink. Long ones are said in parts.
    """
    from antiphon.data.speech.speak import Sentence
    from antiphon.data.speech.utterances import SpeechSet
    from antiphon.data.text.corpora import text_id

    done = {u.id for u in SpeechSet(folder).utterances} if (folder / "manifest.jsonl").is_file() else set()
    voices = [voice for voice, share in HELD_OUT for _ in range(share)]
    wanted: dict[str, list[Sentence]] = {}
    said: list[list[str]] = []  # the ids of each text's parts
    for text in texts:
        identity, cut = text_id(text), parts(text)
        voice = voices[int(identity[:8], 16) % len(voices)]
        # A part is named after its words, too: where a text is cut otherwise than before, no old part is taken for it.
        said.append([identity if len(cut) == 1 else f"{identity}-{i}-{text_id(w)[:8]}" for i, w in enumerate(cut)])
        for part, words in zip(said[-1], cut, strict=True):
            if part not in done:
                wanted.setdefault(voice, []).append(Sentence(part, words, "user", "easy", "dev"))
    for voice, sentences in wanted.items():
        _speak(sentences, folder, voice, 0, MAX_SECONDS)
    found = {clip.id: clip for clip in _clips(folder)}
    missing = [text for text, ids in zip(texts, said, strict=True) if not all(part in found for part in ids)]
    if missing:
        raise DataError(
            f"{folder} could not be completed: {len(missing)} texts were not spoken, such as {missing[0]!r}."
        )
    return [_joined(text, [found[part] for part in ids]) for text, ids in zip(texts, said, strict=True)]


def parts(text: str, longest: int = MAX_CHARACTERS) -> list[str]:
    """A text cut between sentences, or else words, where it is longer than voices say at once; a digit is a word."""
    digits = sum(each.isdigit() for each in text)
    longest = round(longest * len(text) / (len(text) + 3 * digits)) if digits else longest
    cut = [""]
    for sentence in re.split(r"(?<=[.?!])\s+", text.strip()) if len(text) > longest else [text]:
        for piece in textwrap.wrap(sentence, longest) if len(sentence) > longest else [sentence]:
            if cut[-1] and len(cut[-1]) + 1 + len(piece) > longest:
                cut.append("")
            cut[-1] = f"{cut[-1]} {piece}".strip()
    return cut


def _joined(text: str, clips: Sequence[Clip]) -> Clip:
    """Parts of a text behind one another, with the pause between sentences."""
    first = clips[0]
    if len(clips) == 1:
        return first
    pause = torch.zeros(round(PAUSE_SECONDS * first.audio.sample_rate))
    samples = torch.cat([piece for clip in clips for piece in (clip.audio.samples, pause)][:-1])
    return Clip(first.id.partition("-")[0], text, Audio(samples, first.audio.sample_rate), first.voice)


def assistant_texts(texts: Path | None, n: int) -> list[str]:
    """Sentences of 4 to 20 words that an assistant says, of the dev split.

    Raises:
        DataError: no texts.
    """
    if texts is None:
        raise DataError("There are no texts to say. Give the folder of the text sources: --texts FOLDER.")
    from antiphon.data.speech.speak import mixed_sentences

    return [s.text for s in mixed_sentences(texts, {"assistant": 1.0}, "dev", words=(4, 20))[:n]]


def hard_sentences(n: int) -> list[str]:
    """Sentences that are hard to say: numbers, names, tongue twisters and sixty words in a row, as many of each."""
    rows = [json.loads(line) for line in HARD_SENTENCES.read_text(encoding="utf-8").splitlines()]
    return [row["text"] for row in spread(rows, n)]


def teacher_speaks(texts: Sequence[str], voice: str = "hibari") -> list[Clip]:
    """The texts by the teacher of our voice, or another by its name, untouched."""
    from antiphon.data.speech.speak import Speaker

    speaker, plain = Speaker(voice), {"speed": 1.0, "formant": 1.0}
    spoken = [speaker.speak(text, 0, plain) for text in texts]
    return [
        Clip(f"{i:03d}", text, Audio(torch.from_numpy(each.samples), each.sample_rate), "teacher")
        for i, (text, each) in enumerate(zip(texts, spoken))
    ]


def _speak(sentences: Sequence, folder: Path, voice: str, count: int, longest: float = 12.0) -> None:
    from antiphon.data.speech.speak import SpeakConfig, speak

    config = SpeakConfig(
        folder, voices=(voice,), count=count, seconds=(0.3, longest), sample_rate=24000, shard_seconds=60.0
    )
    speak(sentences, config)


def _clips(folder: Path) -> list[Clip]:
    from antiphon.data.speech.utterances import SpeechSet

    speech = SpeechSet(folder)
    return [Clip(u.id, u.text, Audio(torch.from_numpy(samples), speech.sample_rate), u.voice) for u, samples in speech]
