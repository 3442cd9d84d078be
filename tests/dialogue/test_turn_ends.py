"""Where the turn detector can't be had, silence ends turns, and that is told once."""

from __future__ import annotations

from antiphon.audio.endpoint import SILENCE_SECONDS
from antiphon.dialogue import turn_ends
from antiphon.errors import HubError


def test_without_a_network_silence_ends_turns_and_it_is_told_once(monkeypatch, caplog) -> None:
    def fails(_: object) -> None:
        raise HubError("no network")

    monkeypatch.setattr(turn_ends, "fetch", fails)
    turn_ends.turn_detector.cache_clear()
    try:
        for _ in range(2):
            ends = turn_ends.endpointer()
            assert ends.detector is None and ends.speech.silence == SILENCE_SECONDS
        assert [record.message for record in caplog.records if "silence alone" in record.message] == [
            "turns end after silence alone, as the turn detector can't be had: no network"
        ]
    finally:
        turn_ends.turn_detector.cache_clear()
