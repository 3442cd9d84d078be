"""How well the model hears: word error rate of `hear`, Whisper base beside it on the same sound."""

from __future__ import annotations

from antiphon.evals.assistant.material import Clip
from antiphon.evals.harness import Bench
from antiphon.evals.metrics.text import word_error_rate
from antiphon.evals.report import Figure


def unseen_voices(bench: Bench, n: int) -> list[Figure]:
    """Spoken questions by voices that no training set has."""
    return _hear(bench, "hear-wer-unseen-voices", "<= 0.10", bench.questions(n))


def real_speech(bench: Bench, n: int) -> list[Figure]:
    """Prompts by a real person."""
    return _hear(bench, "hear-wer-real-speech", "<= 0.20", bench.prompts(n))


def _hear(bench: Bench, name: str, bar: str, clips: list[Clip]) -> list[Figure]:
    """WER of `hear`, and beside it that of the adapter's draft before Whisper's decoder checked it."""
    model = bench.model
    texts = [clip.text for clip in clips]
    heard = bench.each("model hears", clips, lambda clip: model.hear(clip.audio))
    ours, drafts = [h.text for h in heard], [h.drafted for h in heard]
    whisper = bench.judged("the same", [clip.audio for clip in clips], reference=True)
    bench.save_items(
        name,
        [
            {"id": c.id, "voice": c.voice, "text": c.text, "heard": a, "draft": d, "whisper": b, "wer": _wer(c.text, a)}
            for c, a, d, b in zip(clips, ours, drafts, whisper, strict=True)
        ],
    )
    reference = word_error_rate(texts, whisper)
    return [
        Figure(name, word_error_rate(texts, ours), "WER", bar, reference, len(clips)),
        Figure(f"{name}-adapter-alone", word_error_rate(texts, drafts), "WER", None, reference, len(clips)),
    ]


def _wer(said: str, heard: str) -> float:
    try:
        return round(word_error_rate([said], [heard]), 3)
    except ValueError:  # nothing but punctuation
        return 0.0
