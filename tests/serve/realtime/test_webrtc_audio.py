"""What a WebRTC call plays and hears, without a call: pacing, what was played, lost packets."""

from __future__ import annotations

import numpy as np
import pytest

from antiphon.serve.access.client_secrets import ClientSecrets
from antiphon.serve.errors import RequestError
from antiphon.serve.realtime.webrtc_audio import CUSHION_PACKETS, FADE_SAMPLES, PACKET_SAMPLES, Microphone, Player


class Told:
    def __init__(self):
        self.events = []
        self.player = Player(lambda what, response: self.events.append((what, response)))

    def steps(self, count: int) -> np.ndarray:
        return np.concatenate([self.player.step() for _ in range(count)])


def ramp(samples: int) -> np.ndarray:
    return np.linspace(0.1, 0.9, samples, dtype=np.float32)


def test_a_response_is_played_once_whole_and_in_order():
    told = Told()
    first, second = ramp(5 * PACKET_SAMPLES + 7), -ramp(3 * PACKET_SAMPLES)
    told.player.add("a", "item_a", first[:100])
    assert (
        not told.steps(CUSHION_PACKETS).any() and told.events == []
    )  # it waits, so that one late frame leaves no hole
    for at in range(100, len(first), 333):
        told.player.add("a", "item_a", first[at : at + 333])
    told.player.add("b", "item_b", second)
    told.player.end("a"), told.player.end("b")
    assert told.player.waiting == pytest.approx((len(first) + len(second)) / 24000)
    out = told.steps(10)
    assert np.array_equal(out[: len(first)], first)
    assert np.array_equal(out[len(first) : len(first) + len(second)], second)
    assert told.events == [("started", "a"), ("stopped", "a"), ("started", "b"), ("stopped", "b")]
    assert not told.player.playing and not told.steps(1).any()


def test_sound_that_comes_late_leaves_silence_and_goes_on():
    told = Told()
    told.player.add("a", "item_a", ramp(PACKET_SAMPLES))
    told.steps(CUSHION_PACKETS + 1)
    assert not told.steps(2).any() and told.player.playing
    told.player.add("a", "item_a", ramp(PACKET_SAMPLES))
    assert np.array_equal(told.steps(1), ramp(PACKET_SAMPLES))
    told.player.end("a")
    told.steps(1)
    assert told.events == [("started", "a"), ("stopped", "a")]


def test_what_is_cleared_fades_and_tells_how_much_was_played():
    told = Told()
    told.player.add("a", "item_a", np.ones(48000, np.float32))
    told.player.add("b", "item_b", np.ones(4800, np.float32))
    told.steps(CUSHION_PACKETS + 10)
    dropped = told.player.clear()
    assert [(each.item_id, each.played_ms) for each in dropped] == [("item_a", 200), ("item_b", 0)]
    tail = told.steps(3)
    assert tail[0] == 1 and (np.diff(tail[:FADE_SAMPLES]) < 0).all() and not tail[FADE_SAMPLES:].any()
    assert not told.player.playing and told.player.clear() == []
    assert told.events == [("started", "a")]


@pytest.mark.parametrize("sides", [(1, 1), (1, -1)], ids=["same", "opposite"])
def test_the_microphone_keeps_the_tone_and_fills_what_was_lost(sides):
    t = np.arange(48000) / 48000
    tone = np.sin(2 * np.pi * 440 * t)
    stereo = (tone[:, None] * 16384 * sides).astype(np.int16)

    def heard(left_out: tuple[int, ...]) -> np.ndarray:
        microphone = Microphone()
        packets = [
            microphone.step(stereo[at : at + 960], 48000, 7.0 + at / 48000)
            for number, at in enumerate(range(0, 48000, 960))
            if number not in left_out
        ]
        return np.concatenate(packets)

    whole, holed = heard(()), heard((20, 21))
    assert 23000 < len(whole) <= 24000 and abs(len(whole) - len(holed)) <= 1
    spectrum = np.abs(np.fft.rfft(whole[2400:14400] * np.hanning(12000)))
    assert abs(spectrum.argmax() * 2 - 440) < 4 and 0.45 < np.abs(whole[2400:]).max() < 0.55
    hole = holed[int(0.41 * 24000) : int(0.43 * 24000)]
    assert np.abs(hole).max() < 0.02 < np.abs(holed[int(0.45 * 24000) :]).max()
    assert len(heard(tuple(range(10, 30)))) < 15000  # after a long break the line just goes on


def test_keys_are_bounded_expire_and_open_realtime_alone():
    now = [1000.0]
    keys = ClientSecrets(max_keys=2, clock=lambda: now[0])
    one, until = keys.make(10, {"instructions": "a"})
    other, _ = keys.make(20, {})
    assert until == 1010 and one != other and one not in repr(vars(keys))
    with pytest.raises(RequestError):
        keys.make(10, {})
    assert keys.find(one, "/v1/realtime/calls").session == {"instructions": "a"}
    assert (
        keys.find(one, "/v1/realtime") and not keys.find(one, "/v1/models") and not keys.find(one[:-1], "/v1/realtime")
    )
    now[0] = 1010
    assert not keys.find(one, "/v1/realtime") and keys.find(other, "/v1/realtime")
    keys.make(10, {})  # its place is free
