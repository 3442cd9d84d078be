"""Pulses, filters and noise: the right pitch, whole or in pieces; and pitch found again in what was made."""

import math

import pytest
import torch

from antiphon.codecs.mini.vocoder import REFERENCE, SourceFilter, contour_of, estimate_pitch, pulses

RATE, HOP = 24000, 320


def test_pulses_are_the_sum_of_their_harmonics():
    state = SourceFilter(4, 2 * HOP, HOP, RATE).init_state(1)
    train = pulses(torch.full((1, 5), 200.0), state, HOP, RATE)[0]
    time = (torch.arange(5 * HOP) + 1) / RATE
    slow = sum(torch.cos(2 * math.pi * 200 * h * time.double()) for h in range(1, 56)).float()
    torch.testing.assert_close(train, slow, atol=2e-2, rtol=0)


def test_unvoiced_frames_are_silent():
    state = SourceFilter(4, 2 * HOP, HOP, RATE).init_state(1)
    train = pulses(torch.tensor([[150.0, 0.0, 150.0]]), state, HOP, RATE).view(3, HOP)
    assert train[1].abs().max() == 0 and train[0].abs().max() > 1 and train[2].abs().max() > 1


@pytest.mark.parametrize("hertz", [90.0, 130.0, 210.0, 330.0])
def test_pitch_is_found_again(hertz):
    state = SourceFilter(4, 2 * HOP, HOP, RATE).init_state(1)
    train = 0.01 * pulses(torch.full((1, 30), hertz), state, HOP, RATE)
    found = estimate_pitch(train, RATE, HOP)[0, 5:-5]
    torch.testing.assert_close(found, torch.full_like(found, hertz), atol=0.02 * hertz, rtol=0)


def test_noise_and_silence_have_no_pitch():
    torch.manual_seed(0)
    assert (estimate_pitch(0.1 * torch.randn(1, 30 * HOP), RATE, HOP) > 0).float().mean() < 0.1
    assert (estimate_pitch(torch.zeros(1, 10 * HOP), RATE, HOP) == 0).all()


def test_gradients_reach_the_filters_and_the_pitch_head():
    torch.manual_seed(0)
    head = SourceFilter(4, 2 * HOP, HOP, RATE)
    x = torch.randn(2, 4, 6)
    sound = head(x, torch.full((2, 6), 180.0))
    voiced, height = head.height(x)
    (sound.square().mean() + voiced.square().mean() + height.square().mean() + height.mean()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in head.parameters())


def test_the_pitch_goes_on_between_voices():
    pitch = REFERENCE * torch.tensor([[0.0, 1.0, 0.0, 0.0, 2.0, 0.0], [0.0] * 6])
    up = math.log(2)
    expected = torch.tensor([[0.0, 0.0, up / 3, 2 * up / 3, up, up], [0.0] * 6])
    torch.testing.assert_close(contour_of(pitch), expected)


def test_a_contour_network_hears_the_frames_before_and_streams():
    torch.manual_seed(0)
    head, x = SourceFilter(4, 2 * HOP, HOP, RATE, contour_width=6), torch.randn(2, 4, 9)
    plain = head.pitch(x.transpose(1, 2))
    torch.testing.assert_close(torch.stack(head.height(x), -1), plain)  # a fresh one adds nothing
    torch.nn.init.normal_(head.contour[-1].conv.weight)
    whole, other = torch.stack(head.height(x), -1), x.clone()
    other[..., 3] = 0
    changed = (torch.stack(head.height(other), -1) - whole).abs().amax((0, 2)) > 1e-6
    assert not changed[:3].any() and changed[3:].all()
    state = head.init_state(2)
    pieces = [torch.stack(head.height(part, state.contour), -1) for part in x.split((1, 5, 3), -1)]
    torch.testing.assert_close(torch.cat(pieces, 1), whole)


def test_the_same_features_give_the_same_sound():
    torch.manual_seed(0)
    head, x = SourceFilter(4, 2 * HOP, HOP, RATE), torch.randn(1, 4, 6)
    assert torch.equal(head(x), head(x))


def test_a_window_that_is_not_two_hops_is_refused():
    with pytest.raises(ValueError, match="two hops"):
        SourceFilter(4, 3 * HOP, HOP, RATE)
