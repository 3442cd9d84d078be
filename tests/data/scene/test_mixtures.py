"""Sounds put together: at the times and levels that the labels say, the same from the same seed."""

from __future__ import annotations

import numpy as np
import pytest

from antiphon.data.scene.example import RATE, Example, Span, activity
from antiphon.data.scene.mixtures import (
    TAIL,
    Canvas,
    Clip,
    alone,
    audible,
    coloured,
    conversation,
    excerpt,
    levelled,
    mixture,
    surround,
)
from antiphon.data.speech.augment import rms, room_response


def clip(kind: str, label: str = "", seconds: float = 1.0, seed: int = 0, **known: bool) -> Clip:
    samples = 0.1 * np.random.default_rng(seed).standard_normal(int(seconds * RATE)).astype(np.float32)
    spans = [Span("kind", kind, 0.0, seconds)]
    spans += [Span({"sound": "event", "music": "instrument"}[kind], label, 0.0, seconds)] if label else []
    return Clip(samples, tuple(spans), f"{kind} {seed}", frozenset({"event", "instrument"}))


def test_a_clip_is_put_where_and_as_loud_as_it_is_told() -> None:
    canvas = Canvas.empty(3.0)
    canvas.put(clip("sound", "dog"), at=1.0, level=-20.0)
    canvas.put(clip("sound", "rain", seed=1), at=2.5, level=-26.0)
    canvas.put(clip("sound", "rain"), at=3.5, level=-6.0)  # behind the end: nothing
    part = canvas.samples[RATE : 2 * RATE]
    assert 20 * np.log10(rms(part)) == pytest.approx(-20.0, abs=0.1)
    assert not canvas.samples[:RATE].any() and not canvas.samples[2 * RATE : int(2.5 * RATE)].any()
    example = canvas.finished(frozenset({"kind"}))
    events = [(span.label, span.start, span.end) for span in example.spans if span.group == "event"]
    assert events == [("dog", 1.0, 2.0), ("rain", 2.5, 3.0)]
    silent = [(span.start, span.end) for span in example.spans if span.label == "silence"]
    assert silent == [(0.0, 1.0), (2.0, 2.5)]
    assert example.source == "sound 0 + sound 1"


def test_the_level_is_that_of_what_is_heard_not_of_the_pauses() -> None:
    samples = np.concatenate([clip("sound").samples, np.zeros(9 * RATE, np.float32)])
    assert 20 * np.log10(rms(levelled(samples, -20.0)[:RATE])) == pytest.approx(-20.0, abs=0.3)


def test_an_excerpt_keeps_its_labels_in_place() -> None:
    samples = np.zeros(4 * RATE, np.float32)
    for start in (0.5, 2.0):
        samples[int(start * RATE) : int((start + 1) * RATE)] = clip("speech").samples
    spans = (Span("kind", "speech", 0.5, 1.5), Span("kind", "speech", 2.0, 3.0), Span("kind", "silence", 1.5, 2.0))
    for seed in range(8):
        whole = excerpt(Example(samples, spans, frozenset()), 3.0, np.random.default_rng(seed))
        assert whole.seconds == pytest.approx(2.5, abs=0.1)
        assert [span.label for span in whole.spans] == ["speech", "speech"]
        one = excerpt(Example(samples, spans, frozenset()), 1.2, np.random.default_rng(seed))
        assert one.seconds == pytest.approx(1.0, abs=0.1) and len(one.spans) == 1
        assert one.spans[0].start == pytest.approx(0.0, abs=0.05) and one.spans[0].end == pytest.approx(1.0, abs=0.05)
        part = excerpt(Example(samples, spans, frozenset()), 0.5, np.random.default_rng(seed))
        assert part.seconds == pytest.approx(0.5, abs=0.05)


def test_a_mixture_is_drawn_by_its_seed_and_is_loud_where_its_labels_say() -> None:
    seen: set[str] = set()
    for seed in range(40):
        made = [
            mixture(
                lambda g: clip("speech", seconds=1.5, seed=int(g.integers(99))),
                lambda g: clip("sound", "dog", 0.5, int(g.integers(99))),
                lambda g: clip("music", "piano", 10.0, int(g.integers(99))),
                np.random.default_rng(seed),
            )
            for _ in range(2)
        ]
        assert np.array_equal(made[0].samples, made[1].samples) and made[0].spans == made[1].spans
        example = made[0]
        assert np.abs(example.samples).max() <= 1.0 and 5.0 <= example.seconds <= 10.0
        assert all(0.0 <= span.start < span.end <= example.seconds + 1e-6 for span in example.spans)
        seen |= {span.label for span in example.spans}
        if not {"noise", "room"} & {span.label for span in example.spans} and "music" not in str(example.spans):
            for start, end in activity(example.samples, below=20.0):
                middle = (start + end) / 2
                heard = [s for s in example.spans if s.group == "kind" and s.start - 0.1 <= middle <= s.end + 0.1]
                assert any(span.label != "silence" for span in heard)
    assert {"speech", "music", "sound", "silence", "dog", "piano", "one", "noise", "room", "telephone"} <= seen


def test_one_voice_two_in_turn_and_two_at_once() -> None:
    seen = {}
    for seed in range(30):
        made = conversation(
            lambda g: [clip("speech", seconds=1.0, seed=n) for n in range(4)], np.random.default_rng(seed)
        )
        speech = sorted((s.start, s.end) for s in made.spans if s.label == "speech")
        case = next(s.label for s in made.spans if s.group == "speakers")
        seen[case] = made
        if case == "at_once":
            (both,) = [s for s in made.spans if s.label == "at_once"]
            assert speech[1][0] < speech[0][1] and both.end - both.start >= 0.45
            assert both.start == pytest.approx(speech[1][0], abs=0.01) and "speakers/in_turn" not in made.known
        else:
            assert all(a[1] <= b[0] + 0.01 for a, b in zip(speech, speech[1:]))
    assert set(seen) == {"one", "in_turn", "at_once"}


def test_only_of_what_was_recorded_in_quiet_it_is_known_that_it_is_quiet() -> None:
    example = Canvas.empty(2.0)
    example.put(clip("speech"), 0.5, -20.0)
    plain = example.finished(frozenset({"kind"}))
    for seed in range(30):
        clean, noisy = (surround(plain, np.random.default_rng(seed), clean) for clean in (True, False))
        named = {span.label for span in clean.spans if span.group == "surroundings"}
        assert named and "surroundings" in clean.known and "surroundings" not in noisy.known
        assert ("quiet" in named) == (named == {"quiet"})
        assert "surroundings/telephone" in noisy.known
        if "noise" in named:
            assert not any(span.label == "silence" for span in clean.spans)


def test_another_colour_is_the_same_sound_with_other_balances() -> None:
    noise = clip("sound", seconds=2.0).samples
    changes = []
    for seed in range(6):
        out = coloured(noise, np.random.default_rng(seed))
        assert len(out) == len(noise) and np.abs(out).max() <= 1.0
        spectra = [np.abs(np.fft.rfft(each)).reshape(-1)[100:16000].reshape(3, -1).mean(1) for each in (noise, out)]
        ratio = 20 * np.log10(spectra[1] / spectra[0])
        changes.append(ratio - ratio.mean())
    assert np.std(changes, axis=0).max() > 2.0
    assert len(coloured(np.zeros(0, np.float32), np.random.default_rng(0))) == 0


def test_what_is_alone_keeps_what_is_known_of_it() -> None:
    made = alone(clip("sound", "dog"), np.random.default_rng(3), clean=False)
    assert {"event", "instrument"} <= made.known and any(span.label == "dog" for span in made.spans)


def tone(hertz: float, seconds: float, loud: float = 0.1) -> np.ndarray:
    return (loud * np.sin(2 * np.pi * hertz * np.arange(int(seconds * RATE)) / RATE)).astype(np.float32)


def test_what_lies_under_something_louder_is_there_when_it_comes_out() -> None:
    spans = (Span("kind", "sound", 0.5, 2.5), Span("event", "dog", 0.5, 2.5))
    masker = (Span("kind", "speech", 1.0, 1.8),)
    noise = np.random.default_rng(0).standard_normal(4 * RATE).astype(np.float32)
    dog = (int(0.5 * RATE), 0.01 * noise[: 2 * RATE], spans)
    found = audible([dog, (RATE, 0.1 * noise[2 * RATE :][: int(0.8 * RATE)], masker)], np.zeros(3 * RATE, np.float32))
    dogs = [(span.start, span.end) for span in found if span.label == "dog"]
    assert dogs == [pytest.approx((0.5, 1.0), abs=0.06), pytest.approx((1.8, 2.5), abs=0.06)]
    assert [span.label for span in found].count("speech") == 1
    # A bell has a band of its own; in noise that is louder everywhere nothing is heard.
    bell = (int(0.5 * RATE), tone(3000.0, 2.0, 0.01), spans)
    over = audible([bell, (0, tone(200.0, 3.0), ())], np.zeros(3 * RATE, np.float32))
    assert [(s.start, s.end) for s in over if s.label == "dog"] == [pytest.approx((0.5, 2.5), abs=0.06)]
    assert audible([dog], 0.1 * noise[: 3 * RATE]) == []


def test_in_a_room_a_sound_rings_on() -> None:
    spans, quiet = (Span("event", "dog", 0.0, 0.5),), np.zeros(2 * RATE, np.float32)
    room = room_response(RATE, 0.8, np.random.default_rng(0))
    (dry,), (wet,) = (audible([(0, tone(1000.0, 0.5), spans)], quiet, each) for each in (None, room))
    assert dry.end == pytest.approx(0.5, abs=0.06) and dry.end + 0.1 < wet.end <= 0.5 + TAIL


def test_an_excerpt_of_a_sound_is_cut_between_its_labels() -> None:
    waves = 0.1 * np.random.default_rng(0).standard_normal(6 * RATE).astype(np.float32)
    waves *= np.abs(np.sin(np.pi * np.arange(len(waves)) / RATE)) ** 4  # softer by far six times
    example = Example(waves, (Span("kind", "sound", 0.0, 6.0), Span("event", "sea_waves", 0.0, 6.0)), frozenset())
    for seed in range(8):
        assert excerpt(example, 3.0, np.random.default_rng(seed)).seconds == pytest.approx(3.0, abs=0.05)
