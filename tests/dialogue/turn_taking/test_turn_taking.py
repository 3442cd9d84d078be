"""Who has the floor: by silence, by a detector, by a network. Sound is a level; the networks are pretended."""

from __future__ import annotations

import pytest
import torch

from antiphon.audio.endpoint import Endpointer
from antiphon.audio.speech import LoudnessActivity, SpeechDetector
from antiphon.dialogue.turn_taking import detectors
from antiphon.dialogue.turn_taking import network as module
from antiphon.dialogue.turn_taking.decision import TakesTurns, TurnDecision, Voice
from antiphon.dialogue.turn_taking.detectors import SilenceTurns, SmartTurns
from antiphon.dialogue.turn_taking.network import Judgement, NetworkTurns
from tests.dialogue.pretended import DecidingNetwork as Network

FRAME = 1920
QUIET, LOUD = 0.0005, 0.2


def frames(*levels: tuple[float, int]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [level * torch.randn(FRAME, generator=generator) for level, count in levels for _ in range(count)]


@pytest.fixture(autouse=True)
def by_loudness(monkeypatch):
    """A voice is what is loud."""
    for place in (detectors, module):
        if hasattr(place, "SileroActivity"):
            monkeypatch.setattr(place, "SileroActivity", LoudnessActivity)
    monkeypatch.setattr("antiphon.dialogue.turn_taking.decision.SileroActivity", LoudnessActivity)


def decided(turns: TakesTurns, sound: list[torch.Tensor], own: bool = False) -> list[TurnDecision]:
    return [turns.step(frame, own) for frame in sound]


def first(found: list[TurnDecision], kind: str) -> int:
    kinds = [one.kind for one in found]
    return kinds.index(kind) if kind in kinds else -1


def test_a_voice_is_counted_in_seconds_said_and_since():
    voice = Voice(24000)
    for frame in frames((QUIET, 5), (LOUD, 5), (QUIET, 3)):
        voice.step(frame)
    assert voice.spoken == pytest.approx(0.4, abs=0.05) and voice.quiet == pytest.approx(0.24, abs=0.05)
    assert voice.is_turn and not voice.voiced
    voice.forget()
    assert not voice.is_turn


def test_by_silence_a_turn_is_taken_after_it():
    found = decided(SilenceTurns(silence=0.56), frames((QUIET, 5), (LOUD, 10), (QUIET, 12)))
    assert first(found, "take") in (21, 22) and [one.kind for one in found].count("take") == 1
    assert all(one.voiced for one in found[6:15])


def test_by_voice_alone_every_voice_takes_the_model_s_turn():
    found = decided(SilenceTurns(), frames((QUIET, 5), (LOUD, 5)), own=True)
    assert first(found, "yield") in (7, 8)
    short = decided(SilenceTurns(), frames((QUIET, 5), (LOUD, 2), (QUIET, 10), (LOUD, 2)), own=True)
    assert first(short, "yield") == -1


class Detector:
    """A turn detector that says what it is told, and keeps how much it heard."""

    def __init__(self, chance: float) -> None:
        self.chance, self.heard = chance, []

    def probability(self, samples: torch.Tensor) -> float:
        self.heard.append(len(samples) / 16000)
        return self.chance


def smart(chance: float) -> SmartTurns:
    speech = SpeechDetector(LoudnessActivity(24000))
    return SmartTurns(ends=Endpointer(Detector(chance), speech=speech))


def test_by_a_detector_a_turn_is_likely_over_and_taken_sooner_if_the_words_say_so_too():
    turns, sound = smart(0.95), frames((QUIET, 5), (LOUD, 10), (QUIET, 25))
    found = decided(turns, sound)
    likely, take = [one.likely for one in found].index(True), first(found, "take")
    assert likely == pytest.approx(17, abs=1) and take == pytest.approx(15 + 1.4 / 0.08, abs=2)
    turns, took = smart(0.95), -1
    for number, frame in enumerate(sound):
        decision = turns.step(frame, False)
        if decision.likely:
            turns.judge_words(1.0)
        if decision.kind == "take" and took < 0:
            took = number
    assert took == pytest.approx(19, abs=1)
    assert first(decided(smart(0.1), sound), "take") == -1


TURN = frames((QUIET, 5), (LOUD, 10), (QUIET, 40))


def test_by_a_network_a_turn_that_it_finds_over_is_taken_at_once_and_once():
    found = decided(NetworkTurns(Network({"take": 0.99})), TURN)
    assert first(found, "take") == pytest.approx(17, abs=1) and [one.kind for one in found].count("take") == 1
    assert not any(one.kind == "take" for one in found[:15])


def test_what_it_never_finds_over_ends_after_its_patience():
    turns = NetworkTurns(Network({"listen": 1.0}), eagerness="high", judgement=Judgement(waiting=0.0))
    found = decided(turns, TURN)
    assert first(found, "take") == pytest.approx(15 + 2.0 / 0.08, abs=1)


def test_three_judge_and_the_more_agree_the_sooner():
    how = Judgement(network=1.0, detector=1.0, words=1.0, bias=0.0, waiting=0.0)
    middling = {"take": 0.5}
    for detector, words, taken in ((None, None, False), (0.9, None, True), (0.5, 0.9, True), (0.1, 0.9, False)):
        turns = NetworkTurns(Network(middling), detector=Detector(detector) if detector else None, judgement=how)
        found = []
        for frame in TURN[:22]:
            found.append(turns.step(frame, False))
            if words is not None and len(found) == 18:
                turns.judge_words(words)
        assert (first(found, "take") >= 0) == taken, (detector, words)


def test_who_goes_on_is_asked_about_anew():
    detector = Detector(0.5)
    turns = NetworkTurns(Network({"take": 0.3}), detector=detector)
    found = decided(turns, frames((QUIET, 5), (LOUD, 10), (QUIET, 4), (LOUD, 10), (QUIET, 4)))
    assert [one.likely for one in found[15:19]][-1] and not any(one.likely for one in found[20:29])
    assert len(detector.heard) == 2 and detector.heard[0] < 2.0 < detector.heard[1]  # the turn, from before its start


def test_in_the_model_s_turn_a_voice_that_takes_it_is_told_from_one_that_does_not():
    sound = frames((QUIET, 5), (LOUD, 5))
    found = decided(NetworkTurns(Network({"yield": 0.8, "ignore": 0.1})), sound, own=True)
    assert first(found, "yield") in (6, 7)
    found = decided(NetworkTurns(Network({"ignore": 0.8, "yield": 0.1})), sound, own=True)
    assert first(found, "yield") == -1 and found[-1].kind == "ignore"
    assert first(decided(NetworkTurns(Network({"yield": 0.9})), frames((QUIET, 10)), own=True), "yield") == -1


def test_a_sign_of_listening_is_asked_for_in_a_pause_alone():
    network = Network({"backchannel": 0.9})
    found = decided(NetworkTurns(network), TURN[:18])
    assert first(found, "backchannel") in (15, 16)


def test_the_network_hears_every_frame_and_whose_it_is():
    network = Network({"listen": 1.0})
    turns = NetworkTurns(network)
    decided(turns, TURN[:3]), decided(turns, TURN[:2], own=True)
    assert network.own == [False] * 3 + [True] * 2


def test_more_eager_takes_sooner():
    takes = {
        how: first(decided(NetworkTurns(Network({"take": 0.8}), eagerness=how), TURN), "take")
        for how in ("high", "low")
    }
    assert 0 < takes["high"] < takes["low"]


def test_the_longer_nothing_comes_the_likelier_a_turn_is_over():
    turns, chances = NetworkTurns(Network({"take": 0.3})), []
    for frame in TURN[:25]:
        turns.step(frame, False)
        chances.append(turns.chance)
    assert chances[16] < chances[18] < chances[20]
