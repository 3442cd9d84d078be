"""How well the model speaks: Whisper's word error rate and DNSMOS of `say`, and what the codec alone costs."""

from __future__ import annotations

import statistics

import torch

from antiphon.audio.io import Audio
from antiphon.evals.harness import Bench
from antiphon.evals.metrics.speech import log_mel_distance, mean_delta, stoi
from antiphon.evals.metrics.text import word_error_rate
from antiphon.evals.report import Figure


def say(bench: Bench, n: int) -> list[Figure]:
    """Sentences that an assistant says, in our voice; reference: the teacher on the same texts."""
    clips = bench.teacher(n)
    texts = [clip.text for clip in clips]
    sounds = bench.each("says", clips, lambda clip: bench.model.say(clip.text, seed=bench.config.seed))
    spoken = [clip.audio for clip in clips]
    heard, teacher_heard = bench.judged("the model", sounds), bench.judged("the teacher", spoken, reference=True)
    ours, teachers = bench.dnsmos("the model", sounds), bench.dnsmos("the teacher", spoken, reference=True)
    bench.save_items(
        "say",
        [
            {
                "id": c.id,
                "text": c.text,
                "heard": a,
                "teacher_heard": b,
                "dnsmos": round(x, 3),
                "teacher_dnsmos": round(y, 3),
            }
            for c, a, b, x, y in zip(clips, heard, teacher_heard, ours, teachers, strict=True)
        ],
    )
    for clip, sound in zip(clips, sounds, strict=True):
        bench.save_sound(f"say-{clip.id}", sound)
    return [
        Figure(
            "say-wer",
            word_error_rate(texts, heard),
            "WER",
            "<= 0.12",
            word_error_rate(texts, teacher_heard),
            len(clips),
        ),
        Figure("say-dnsmos-delta", mean_delta(ours, teachers), "OVRL", ">= -0.4", 0.0, len(clips)),
        Figure("say-dnsmos", statistics.fmean(ours), "OVRL", None, statistics.fmean(teachers), len(clips)),
    ]


def codec(bench: Bench, n: int) -> list[Figure]:
    """The teacher's voice through the codec and back; reference: the teacher's voice untouched."""
    clips = bench.teacher(n)
    texts = [clip.text for clip in clips]
    sounds = bench.each("through the codec", clips, lambda clip: round_trip(bench.model.codec, clip.audio))
    heard = bench.judged("the codec", sounds)
    before = bench.judged("the teacher", [clip.audio for clip in clips], reference=True)
    scores = [stoi(clip.audio, sound) for clip, sound in zip(clips, sounds, strict=True)]
    distances = [log_mel_distance(clip.audio, sound) for clip, sound in zip(clips, sounds, strict=True)]
    bench.save_items(
        "codec",
        [
            {"id": c.id, "text": c.text, "heard": a, "before": b, "stoi": round(s, 3), "log_mel": round(d, 3)}
            for c, a, b, s, d in zip(clips, heard, before, scores, distances, strict=True)
        ],
    )
    for clip, sound in zip(clips, sounds, strict=True):
        bench.save_sound(f"codec-{clip.id}", sound)
    wer_after, wer_before = word_error_rate(texts, heard), word_error_rate(texts, before)
    return [
        Figure("codec-wer-added", wer_after - wer_before, "WER", "<= 0.02", wer_before, len(clips)),
        Figure("codec-stoi", statistics.fmean(scores), "STOI", ">= 0.92", 1.0, len(clips)),
        Figure("codec-log-mel-distance", statistics.fmean(distances), "nats", None, 0.0, len(clips)),
    ]


@torch.inference_mode()
def round_trip(codec, audio: Audio) -> Audio:
    """Sound through codes and back, at the codec's sample rate and its own length."""
    audio = audio.mono().resample(codec.sample_rate)
    samples = codec.decode(codec.encode(audio.samples[None, None]))[0, 0]
    return Audio(samples[: audio.samples.shape[-1]], codec.sample_rate)
