"""The fit of a codec's linear encoder, on data whose structure is known."""

import torch

from antiphon.train.codec.fit import PHONES, POINTS, phone_directions, phone_information, principal_components


def test_components_find_the_plane_that_the_data_lies_in():
    torch.manual_seed(0)
    basis = torch.linalg.qr(torch.randn(5, 2))[0].T
    x = torch.randn(400, 2) @ (basis * torch.tensor([[3.0], [1.0]])) + 7
    mean, components = principal_components(x, 2)
    torch.testing.assert_close((x - mean) @ components.T @ components + mean, x, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(components @ components.T, torch.eye(2), atol=1e-5, rtol=0)


def test_phone_directions_ignore_what_does_not_tell_phones_apart():
    torch.manual_seed(0)
    phones = torch.randint(1, 3, (500, 1)).expand(-1, POINTS)
    latents = torch.randn(500, 4) * torch.tensor([10.0, 0.1, 10.0, 10.0])
    latents[:, 1] += phones[:, 0] - 1.5  # the one direction that matters, small among large ones
    directions = phone_directions(latents - latents.mean(0), phones, 1)[0]
    spread = directions.abs() * latents.std(0)
    assert spread[1] > 10 * spread[[0, 2, 3]].max()
    assert int(phones.max()) < PHONES


def test_information_by_hand():
    phones = torch.tensor([0, 0, 1, 1])
    assert phone_information(torch.tensor([5, 5, 2, 2]), phones) == 1.0
    assert abs(phone_information(torch.tensor([0, 1, 0, 1]), phones)) < 1e-9
    assert abs(phone_information(torch.tensor([0, 0, 0, 1]), phones) - 0.3113) < 1e-3
