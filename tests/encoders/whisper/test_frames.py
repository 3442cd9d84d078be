"""A frame in, a frame out: what comes step by step is what a whole recording gives, for rows out of step, too."""

import pytest
import torch

from antiphon.encoders.whisper.encoder import EncoderConfig, WhisperBlockEncoder
from antiphon.encoders.whisper.frames import BLOCK, FRAME, FrameEncoder
from antiphon.nn.state import StateBatch

SIZES = dict(width=16, layers=2, heads=2, inner=24, bands=80)
FRAMES = 23  # more than twice what the tiny encoder has positions for


@pytest.fixture(scope="module")
def encoder() -> FrameEncoder:
    torch.manual_seed(0)
    return FrameEncoder(WhisperBlockEncoder(EncoderConfig(**SIZES, positions=40, block=BLOCK, right=BLOCK)).eval())


def sound(seed: int, frames: int = FRAMES) -> torch.Tensor:
    return 0.1 * torch.randn(frames * FRAME, generator=torch.Generator().manual_seed(seed))


def test_frames_as_they_come_are_those_of_the_whole(encoder: FrameEncoder) -> None:
    whole, state = encoder.whole(sound(0)), encoder.init_state(1)
    assert whole.shape == (FRAMES, encoder.width) == (FRAMES, BLOCK * 16)
    made = torch.cat([encoder.step(piece[None], state) for piece in sound(0).split(FRAME)])
    assert not made[: encoder.delay].any()  # nothing was heard yet
    # The last frames of the whole have no sound after them to look at.
    torch.testing.assert_close(made[encoder.delay :], whole[: -encoder.delay], atol=1e-4, rtol=1e-4)


def test_packed_weights_give_the_same() -> None:
    torch.manual_seed(0)
    sizes = EncoderConfig(**SIZES | {"width": 32, "inner": 48}, positions=40, block=BLOCK, right=BLOCK)
    plain = FrameEncoder(WhisperBlockEncoder(sizes).half().float().eval())
    expected = [plain.step(piece[None], state) for state in [plain.init_state(1)] for piece in sound(0).split(FRAME)]
    packed = plain.pack()
    state = packed.init_state(1)
    made = [packed.step(piece[None], state) for piece in sound(0).split(FRAME)]
    torch.testing.assert_close(torch.cat(made), torch.cat(expected), atol=2e-3, rtol=2e-3)


def test_rows_that_joined_later_go_as_they_would_alone(encoder: FrameEncoder) -> None:
    batch = StateBatch(encoder.init_state)
    begun, made = [0, 3, 8], [[], [], []]
    for tick in range(FRAMES + 8):
        for number, first in enumerate(begun):
            if tick == first:
                assert batch.add(encoder.init_state(1)) == number
        live = [n for n, first in enumerate(begun) if first <= tick]
        pieces = [sound(n, FRAMES + 8)[(tick - begun[n]) * FRAME :][:FRAME] for n in live]
        state = batch.front(len(live))
        for number, row in zip(live, encoder.step(torch.stack(pieces), state)):
            made[number].append(row)
        batch.keep(state)
    for number, rows in enumerate(made):
        ours = torch.stack(rows)[encoder.delay :]
        size = min(len(ours), FRAMES - encoder.delay)
        whole = encoder.whole(sound(number, FRAMES + 8))
        torch.testing.assert_close(ours[:size], whole[:size], atol=1e-4, rtol=1e-4)


def test_a_last_frame_that_isnt_whole_is_filled_up(encoder: FrameEncoder) -> None:
    assert encoder.whole(sound(0)[: 5 * FRAME + 1]).shape == (6, encoder.width)
    torch.testing.assert_close(encoder.whole(sound(0)[: 5 * FRAME + 1])[:3], encoder.whole(sound(0)[: 6 * FRAME])[:3])


def test_sound_at_another_rate_is_resampled(encoder: FrameEncoder) -> None:
    other = FrameEncoder(encoder.encoder, 24000)
    state, heard = other.init_state(2), 0.1 * torch.randn(2, 6 * 1920, generator=torch.Generator().manual_seed(0))
    made = [other.step(piece, state) for piece in heard.split(other.frame_samples, 1)]
    resampled, _ = other.resampler(heard, other.resampler.init_state(2))
    assert other.frame_samples == 1920
    for row in range(2):
        torch.testing.assert_close(made[-1][row], other.whole(resampled[row])[3], atol=1e-4, rtol=1e-4)
