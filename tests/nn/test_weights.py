"""Weights that don't fit are told of in one line; those that are read aren't drawn at random first."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from antiphon.nn.weights import NoInitWeights, fill, misfit


def test_what_does_not_fit_is_one_line_with_the_first_of_each():
    wide, narrow = (nn.Sequential(*(nn.Linear(size, size) for _ in range(9))) for size in (8, 4))
    told = misfit(narrow, wide.state_dict())
    assert told == "18 of 18 tensors have another shape, first 0.weight: [8, 8], not [4, 4]"
    with pytest.raises(ValueError, match="first 0.weight"):
        fill(narrow, wide.state_dict())
    other = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Identity(), nn.Linear(4, 4))
    assert misfit(nn.Sequential(nn.Linear(4, 4)), other.state_dict()) == (
        "1 are missing, first 0.bias; 2 are unknown, first 2.weight"
    )
    assert misfit(nn.Sequential(nn.Linear(4, 4)), other.state_dict(), strict=False) == ""


def test_what_fits_is_taken_over():
    one, other = nn.Linear(3, 3), nn.Linear(3, 3)
    fill(one, other.state_dict())
    assert misfit(one, other.state_dict()) == "" and (one.weight == other.weight).all()


def test_modules_to_be_filled_draw_nothing():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    with NoInitWeights():
        nn.Sequential(nn.Linear(3, 4), nn.Embedding(3, 4), nn.Conv1d(3, 4, 2), nn.LSTM(3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert nn.Embedding(30, 40).weight.std() > 0.5  # afterwards they do again
    assert not torch.equal(torch.get_rng_state(), before)


def test_modules_without_memory_do_not_load_the_compiler():
    code = """
import sys, torch
from antiphon.nn.weights import NoInitWeights
with torch.device("meta"), NoInitWeights():
    torch.nn.Embedding(3, 4)
print("torch._dynamo" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
