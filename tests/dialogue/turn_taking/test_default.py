"""What ships: on a recorded question it takes the turn after its end, once, and passes over a click."""

from __future__ import annotations

import torch

from antiphon.audio.io import load
from antiphon.dialogue.turn_taking.default import turn_network
from antiphon.dialogue.turn_taking.network import NetworkTurns
from tests.conftest import ROOT


def test_a_recorded_question_is_taken_after_its_end():
    question = load(ROOT / "examples" / "question.wav", sample_rate=24000, mono=True).samples
    sound = torch.cat([torch.zeros(12000), question, torch.zeros(72000)])
    turns, taken = NetworkTurns(turn_network()), []
    for number, frame in enumerate(sound.split(1920), 1):
        if turns.step(frame, False).kind == "take":
            taken.append(number * 0.08)
    assert len(taken) == 1 and taken[0] > 0.5 + len(question) / 24000 - 0.5
