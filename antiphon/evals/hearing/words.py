"""The words, in any language: what is lost against Whisper's own decoder on the same weights, and their times."""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from antiphon.audio.io import Audio
from antiphon.data.recordings import Recording, recordings
from antiphon.data.speech.voices.base import HibariVoice, Spoken
from antiphon.errors import DataError, EvalError
from antiphon.evals.assistant.asterisk import asterisk_prompts
from antiphon.evals.assistant.figures import real_speech, unseen_voices
from antiphon.evals.assistant.material import MAX_SECONDS, Clip, assistant_texts
from antiphon.evals.harness import rows_of
from antiphon.evals.hearing.evaluation import HearingEvaluation
from antiphon.evals.metrics.text import normalize_any, word_error_rate
from antiphon.evals.report import Figure
from antiphon.evals.rows import spread

FOREIGN = ("ru", "es", "fr", "it")
# The languages of which there are most recordings, by the sets that have them.
LANGUAGES = {
    "ar": "arabic-commands", "de": "emodb", "en": "ljspeech-mini", "it": "", "ru": "tuxpaint-words",
    "es": "tuxpaint-words", "fr": "tuxpaint-words", "be": "tuxpaint-words", "bg": "tuxpaint-words",
    "el": "tuxpaint-words", "ro": "tuxpaint-words", "da": "tuxpaint-words",
}  # fmt: skip
SPOKEN_SECONDS, PAUSE_SECONDS = 6.0, 0.3  # of a language test; between the recordings that it is made of
RATE = 16000


def added_errors(evaluation: HearingEvaluation, n: int) -> list[Figure]:
    """Word error rate on unseen voices and on real prompts over that of Whisper's own decoder on the same sound."""
    figures = []
    for name, measure in (("unseen-voices", unseen_voices), ("real-speech", real_speech)):
        ours = measure(evaluation, n)[0]
        added = ours.value - (ours.reference or 0.0)
        figures.append(Figure(f"wer-added-{name}", added, "WER", "<= 0.005", ours.reference, ours.n))
    return figures


def foreign(evaluation: HearingEvaluation, n: int) -> list[Figure]:
    """The same on prompts in four languages, that nobody tells us; Whisper is told which it hears."""
    folder, said, ours, theirs = evaluation.config.asterisk or evaluation.cached("asterisk"), {}, {}, {}
    for language in FOREIGN:
        prompts = [p for p in asterisk_prompts(folder, 4, language) if p.audio.duration <= MAX_SECONDS]
        clips = spread(prompts, -(-n // len(FOREIGN)))
        heard = evaluation.each(f"hears {language}", clips, lambda clip: evaluation.model.hear(clip.audio))
        said[language], ours[language] = [clip.text for clip in clips], [each.text for each in heard]
        sounds = [clip.audio for clip in clips]
        theirs[language] = evaluation.transcribed(f"the same, {language}", sounds, True, language)
        columns = {"id": [clip.id for clip in clips], "text": said[language], "heard": ours[language]}
        columns |= {"language": [_language(each) for each in heard], "whisper": theirs[language]}
        evaluation.save_items(f"foreign-{language}", rows_of(columns))
    figures = []
    for name, languages in (("", FOREIGN), *((f"-{language}", (language,)) for language in FOREIGN)):
        texts, mine, peers = ([t for one in languages for t in each[one]] for each in (said, ours, theirs))
        wer, reference = (word_error_rate(texts, each, normalize_any) for each in (mine, peers))
        bar = "<= 0.02" if not name else None
        figures.append(Figure(f"wer-added-foreign{name}", wer - reference, "WER", bar, reference, len(texts)))
    return figures


def languages(evaluation: HearingEvaluation, n: int) -> list[Figure]:
    """Which of all of Whisper's languages is spoken: some seconds of one, put together from short recordings."""
    clips = [clip for language in LANGUAGES for clip in spoken_in(evaluation, language, -(-n // len(LANGUAGES)))]
    heard = evaluation.each("languages", clips, lambda clip: evaluation.model.hear(clip.audio))
    truth, told = [clip.voice for clip in clips], [_language(each) for each in heard]
    columns = {"id": [clip.id for clip in clips], "right": truth, "told": told, "heard": [h.text for h in heard]}
    evaluation.save_items("language", rows_of(columns))
    if evaluation.config.pictures is not None:
        from antiphon.evals.plots import draw_confusion

        evaluation.config.pictures.mkdir(parents=True, exist_ok=True)
        place = evaluation.config.pictures / "language.png"
        draw_confusion(truth, told, tuple(LANGUAGES), f"language, n={len(clips)}", place)
    right = [a == b for a, b in zip(truth, told)]
    return [Figure("language-accuracy", sum(right) / len(right), "share", ">= 0.95", 1 / len(LANGUAGES), len(right))]


def spoken_in(evaluation: HearingEvaluation, language: str, count: int) -> list[Clip]:
    """Some seconds of a language at a time, as many as there are up to `count`; `voice` names the language."""
    if language == "it":
        folder = evaluation.config.asterisk or evaluation.cached("asterisk")
        pieces = [clip.audio for clip in asterisk_prompts(folder, 2, language)]
    else:
        place = evaluation.place(LANGUAGES[language])
        found = [each for each in recordings(place / "manifest.jsonl") if _spoken(each) == language]
        # In an order that says nothing: neighbours in a list often say the same.
        found.sort(key=lambda each: hashlib.sha256(each.id.encode()).digest())
        pieces = (each.load() for each in found)
    pause, clips, parts = torch.zeros(int(PAUSE_SECONDS * RATE)), [], []
    for piece in pieces:
        samples = piece.mono().resample(RATE).samples.float()
        peak = float(samples.abs().max()) if len(samples) else 0.0
        if peak < 1e-4:
            continue
        parts += [samples * (0.5 / peak), pause]
        if sum(map(len, parts)) >= SPOKEN_SECONDS * RATE:
            clips.append(Clip(f"{language}-{len(clips)}", "", Audio(torch.cat(parts), RATE), language))
            parts = []
            if len(clips) == count:
                break
    if not clips:
        raise DataError(f"There are too few recordings in {language} to tell the language from.")
    return clips


def word_times(evaluation: HearingEvaluation, n: int) -> list[Figure]:
    """How far words' begins and ends are from where the teacher of our voice put them, half of them further."""
    voice, texts = HibariVoice(), assistant_texts(evaluation.config.texts, n)
    off: list[float] = []
    rows: dict[str, list[Any]] = {"text": [], "heard": [], "off": []}

    def measure(item: tuple[int, str]) -> None:
        number, text = item
        draw = np.random.default_rng([evaluation.config.seed, number])
        spoken = voice.speak(text, number, draw.uniform(0.85, 1.2), draw.uniform(0.7, 1.2), draw.uniform(0.9, 1.1))
        heard = evaluation.model.hear(Audio(torch.from_numpy(spoken.samples), spoken.sample_rate), words=True)
        mine = word_errors(spoken, heard.words)
        for name, value in (("text", text), ("heard", heard.text), ("off", tuple(mine))):
            rows[name].append(value)
        off.extend(mine)

    evaluation.each("word times", enumerate(texts), measure)
    evaluation.save_items("word-times", rows_of(rows))
    if not off:
        raise EvalError("Not one sentence was heard word for word: there are no times to compare.")
    value = 1000 * statistics.median(off)
    return [Figure("word-times-ms", value, "ms, median error", "<= 80", None, len(off))]


def word_errors(spoken: Spoken, words: Sequence[Any]) -> list[float]:
    """Seconds by which each word's start and end are off; none where other words were heard than were said.

    Args:
        spoken: with the voice's own times of its words.
        words: heard, with `start` and `end`.
    """
    real = [(start, end) for phones, start, end in spoken.words if any(map(str.isalpha, phones))]
    if len(real) != len(words):
        return []
    return [abs(a - b) for (start, end), word in zip(real, words) for a, b in ((start, word.start), (end, word.end))]


def _spoken(recording: Recording) -> str:
    return str(recording.about.get("language", ""))


def _language(heard: Any) -> str:
    """What was heard says which language it is; "" where nothing tells."""
    return getattr(heard, "language", None) or ""
