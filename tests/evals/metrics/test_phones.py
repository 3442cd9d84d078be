"""What codes tell about phones: against hand-counted cases, a slow version and the times of an utterance."""

from __future__ import annotations

from collections import Counter
from math import log
from pathlib import Path

import numpy as np
import pytest
import torch

from antiphon.data.speech.utterances import SpeechSet, SpeechWriter, Utterance
from antiphon.errors import EvalError
from antiphon.evals.metrics.phones import (
    Segment,
    codes_and_phones,
    joint_counts,
    measure_phones,
    phone_figures,
    phones_at,
    segments,
    touching,
)
from antiphon.models.tts.phonemes import alphabet
from antiphon.train.codec.fit import phone_information

pytest.importorskip("hibari")


def said(phonemes: str, ends: list[float], start: float = 0.1, **more: object) -> Utterance:
    return Utterance("u", "text", "v", phonemes=phonemes, phoneme_ends=ends, phonemes_start=start, **more)


def test_a_hand_counted_case() -> None:
    codes, phones = torch.tensor([0, 0, 0, 1, 1, 1, 1, 1]), torch.tensor([3, 3, 4, 4, 4, 4, 4, 3])
    assert joint_counts(codes, phones)[:, 3:].tolist() == [[2, 1], [1, 4]]
    figures = phone_figures(codes, phones)
    assert figures.phone_purity == pytest.approx(6 / 8) and figures.cluster_purity == pytest.approx(6 / 8)
    entropy = -(3 / 8 * log(3 / 8) + 5 / 8 * log(5 / 8))
    left = 3 / 8 * -(2 / 3 * log(2 / 3) + 1 / 3 * log(1 / 3)) + 5 / 8 * -(1 / 5 * log(1 / 5) + 4 / 5 * log(4 / 5))
    assert figures.pnmi == pytest.approx(1 - left / entropy) and figures.frames == 8


@pytest.mark.parametrize("seed", range(5))
def test_it_is_the_slow_obvious_version(seed: int) -> None:
    draw = np.random.default_rng(seed)
    phones = draw.integers(0, 6, 400)
    codes = np.where(draw.random(400) < 0.6, phones * 2 + draw.integers(0, 2, 400), draw.integers(0, 15, 400))
    pairs, of_code, of_phone = Counter(zip(codes, phones)), Counter(codes), Counter(phones)
    best = sum(max(pairs[c, p] for p in of_phone) for c in of_code) / 400
    clusters = sum(max(pairs[c, p] for c in of_code) for p in of_phone) / 400
    mutual = sum(n / 400 * log(n * 400 / of_code[c] / of_phone[p]) for (c, p), n in pairs.items())
    entropy = -sum(n / 400 * log(n / 400) for n in of_phone.values())
    figures = phone_figures(torch.from_numpy(codes), torch.from_numpy(phones))
    assert figures.pnmi == pytest.approx(mutual / entropy)
    assert figures.pnmi == pytest.approx(phone_information(torch.from_numpy(codes), torch.from_numpy(phones)))
    assert figures.phone_purity == pytest.approx(best) and figures.cluster_purity == pytest.approx(clusters)


def test_perfect_and_useless_codes() -> None:
    phones = torch.arange(600) % 6
    perfect, useless = phone_figures(phones * 3, phones), phone_figures(torch.zeros_like(phones), phones)
    assert perfect.pnmi == pytest.approx(1) and perfect.phone_purity == pytest.approx(perfect.cluster_purity)
    assert useless.pnmi == pytest.approx(0) and useless.phone_purity == pytest.approx(1 / 6)
    assert phone_figures(phones, torch.zeros_like(phones)).pnmi == 0.0  # nothing to be told


def test_segments_give_stress_to_its_phone_and_break_at_pauses() -> None:
    found = segments(said("hˈɛ, lO.", [0.2, 0.25, 0.4, 0.6, 0.6, 0.7, 0.9, 1.0]))
    assert found == [
        Segment("h", 0.1, 0.2),
        Segment("ɛ", 0.2, 0.4),
        None,
        Segment("l", 0.6, 0.7),
        Segment("O", 0.7, 0.9),
        None,
    ]
    assert segments(said("a b", [0.2, 0.3, 0.4])) == [Segment("a", 0.1, 0.2), Segment("b", 0.3, 0.4)]
    with pytest.raises(EvalError, match="no times"):
        segments(Utterance("u", "text", "v"))


def test_phones_with_any_names() -> None:
    phones = [("HH", 0.1, 0.2), ("AH0", 0.2, 0.3), ("T", 0.35, 0.4)]
    assert touching(phones) == [Segment("HH", 0.1, 0.2), Segment("AH0", 0.2, 0.3), None, Segment("T", 0.35, 0.4)]
    times = np.array([0.05, 0.1, 0.25, 0.32, 0.39, 0.4])
    assert phones_at(phones, times) == ["", "HH", "AH0", "", "T", ""]


class Loudness:
    """A tokenizer whose code is the mean of a frame's samples, in hundredths."""

    sample_rate, channels, frame_rate, codebooks, codebook_size = 8000, 1, 100.0, 2, 100

    def encode(self, audio: torch.Tensor, codebooks: int | None = None) -> torch.Tensor:
        frames = audio[:, 0, : audio.shape[-1] // 80 * 80].unflatten(1, (-1, 80)).mean(2)
        return (100 * frames).round().long()[:, None].expand(-1, codebooks or 2, -1)


@pytest.fixture
def speech(tmp_path: Path) -> SpeechSet:
    """Each phone sounds as a constant of its own."""
    with SpeechWriter(tmp_path / "set", 8000) as writer:
        for n, word in enumerate(["kæt", "tæk", "ækt"]):
            lengths = [0.1, *(0.05 + 0.02 * i for i in range(3)), 0.1]
            levels = [0.0, *(0.1 * (1 + "kæt".index(c)) for c in word), 0.0]
            samples = np.concatenate([np.full(round(8000 * t), level) for t, level in zip(lengths, levels)])
            ends = np.cumsum(lengths)[1:].round(6).tolist()
            writer.add(
                Utterance(str(n), word, "v", phonemes=word + ".", phoneme_ends=ends, phonemes_start=0.1), samples
            )
    return SpeechSet(tmp_path / "set")


def test_codes_meet_the_phones_that_sound(speech: SpeechSet) -> None:
    codes, phones = codes_and_phones(Loudness(), speech, range(3))
    known = alphabet()
    assert set(zip(codes.tolist(), phones.tolist())) == {(0, 0), (10, known["k"]), (20, known["æ"]), (30, known["t"])}
    assert len(codes) == 3 * 41
    assert measure_phones(Loudness(), speech, range(3), codebook=1).pnmi == pytest.approx(1)
    loud, _ = codes_and_phones(Loudness(), speech, range(3), silence=False)
    assert len(loud) == 3 * 21 and (loud > 0).all()
    with pytest.raises(EvalError, match="no utterance"):
        codes_and_phones(Loudness(), speech, [])
