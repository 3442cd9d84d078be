"""How well the model hears: word error rate of `hear`, Whisper base beside it on the same sound."""

from __future__ import annotations

from antiphon.evals.bench import Bench
from antiphon.evals.figures import Figure
from antiphon.evals.material import Clip
from antiphon.evals.text import word_error_rate


def unseen_voices(bench: Bench, n: int) -> list[Figure]:
    """Spoken questions by voices that no training set has."""
    return [_hear(bench, "hear-wer-unseen-voices", "<= 0.10", bench.questions(n))]


def real_speech(bench: Bench, n: int) -> list[Figure]:
    """Prompts by a real person."""
    return [_hear(bench, "hear-wer-real-speech", "<= 0.20", bench.prompts(n))]


def _hear(bench: Bench, name: str, bar: str, clips: list[Clip]) -> Figure:
    model = bench.model
    texts = [clip.text for clip in clips]
    ours = bench.each("model hears", clips, lambda clip: model.hear(clip.audio).text)
    whisper = bench.judged("the same", [clip.audio for clip in clips], reference=True)
    bench.save_items(
        name,
        [
            {"id": c.id, "voice": c.voice, "text": c.text, "heard": a, "whisper": b, "wer": _wer(c.text, a)}
            for c, a, b in zip(clips, ours, whisper, strict=True)
        ],
    )
    return Figure(name, word_error_rate(texts, ours), "WER", bar, word_error_rate(texts, whisper), len(clips))


def _wer(said: str, heard: str) -> float:
    try:
        return round(word_error_rate([said], [heard]), 3)
    except ValueError:  # nothing but punctuation
        return 0.0
