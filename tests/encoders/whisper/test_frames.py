"""A frame in, a frame out: what comes step by step is what a whole recording gives, for rows out of step, too."""

import pytest
import torch

from antiphon.encoders.whisper.encoder import EncoderConfig, WhisperBlockEncoder
from antiphon.encoders.whisper.frames import BLOCK, FRAME, FrameEncoder
from antiphon.nn.state import StateBatch

SIZES = dict(width=16, layers=2, heads=2, inner=24, bands=80)
FRAMES = 23  # more than twice what the tiny encoder has positions for


@pytest.fixture(scope="module")
def ear() -> FrameEncoder:
    torch.manual_seed(0)
    return FrameEncoder(WhisperBlockEncoder(EncoderConfig(**SIZES, positions=40, block=BLOCK, right=BLOCK)).eval())


def sound(seed: int, frames: int = FRAMES) -> torch.Tensor:
    return 0.1 * torch.randn(frames * FRAME, generator=torch.Generator().manual_seed(seed))


def test_frames_as_they_come_are_those_of_the_whole(ear: FrameEncoder) -> None:
    whole, state = ear.whole(sound(0)), ear.init_state(1)
    assert whole.shape == (FRAMES, ear.width) == (FRAMES, BLOCK * 16)
    made = torch.cat([ear.step(piece[None], state) for piece in sound(0).split(FRAME)])
    assert not made[: ear.delay].any()  # nothing was heard yet
    # The last frames of the whole have no sound after them to look at.
    torch.testing.assert_close(made[ear.delay :], whole[: -ear.delay], atol=1e-4, rtol=1e-4)


def test_rows_that_joined_later_go_as_they_would_alone(ear: FrameEncoder) -> None:
    batch = StateBatch(ear.init_state)
    begun, made = [0, 3, 8], [[], [], []]
    for tick in range(FRAMES + 8):
        for number, first in enumerate(begun):
            if tick == first:
                assert batch.add(ear.init_state(1)) == number
        live = [n for n, first in enumerate(begun) if first <= tick]
        pieces = [sound(n, FRAMES + 8)[(tick - begun[n]) * FRAME :][:FRAME] for n in live]
        state = batch.front(len(live))
        for number, row in zip(live, ear.step(torch.stack(pieces), state)):
            made[number].append(row)
        batch.keep(state)
    for number, rows in enumerate(made):
        ours = torch.stack(rows)[ear.delay :]
        size = min(len(ours), FRAMES - ear.delay)
        whole = ear.whole(sound(number, FRAMES + 8))
        torch.testing.assert_close(ours[:size], whole[:size], atol=1e-4, rtol=1e-4)


def test_a_last_frame_that_isnt_whole_is_filled_up(ear: FrameEncoder) -> None:
    assert ear.whole(sound(0)[: 5 * FRAME + 1]).shape == (6, ear.width)
    torch.testing.assert_close(ear.whole(sound(0)[: 5 * FRAME + 1])[:3], ear.whole(sound(0)[: 6 * FRAME])[:3])
