"""Samples and pairs on disk: what is chosen, what a person may change, and what is refused."""

import json

import numpy as np
import pytest
import torch

from antiphon.audio.io import Audio
from antiphon.data.preferences.mine import Drawn, MineConfig, Prompt, mine
from antiphon.data.preferences.pairs import PairConfig, PreferencePairs, choose, write_pairs
from antiphon.data.preferences.samples import Sample, SampleSet
from antiphon.errors import DataError

PROMPTS = [Prompt(str(i), f"prompt {i}") for i in range(4)]


def draw(prompts, samples):
    """Sample k of prompt i is the codes i, k; prompt 3 can't be answered."""
    return [
        [
            Drawn(np.array([[int(prompt.id), number], [7, 8]]), audio=Audio(torch.full((160,), 0.1), 16000))
            for number in range(samples)
        ]
        if prompt.id != "3"
        else []
        for prompt in prompts
    ]


def wer(prompts, answers):
    """The last sample is best; those of prompt 2 are all the same."""
    return [
        {"wer": 0.5 if prompt.id == "2" else 1 - 0.25 * float(answer.array[0, 1]), "heard": "words"}
        for prompt, answer in zip(prompts, answers)
    ]


def mined(folder, count=0):
    return mine(PROMPTS, draw, [wer], MineConfig(folder, samples=3, count=count, batch=2))


def test_pairs_are_the_best_and_the_worst_of_each_prompt(tmp_path):
    mined(tmp_path)
    assert write_pairs(tmp_path, PairConfig({"wer": 1.0})) == 2
    pairs = PreferencePairs(tmp_path)
    assert [pairs.ids(i) for i in range(len(pairs))] == [("0-2", "0-0"), ("1-2", "1-0")]
    assert pairs[1].chosen.tolist() == [[1, 2], [7, 8]] and pairs[1].rejected.tolist() == [[1, 0], [7, 8]]
    line = json.loads((tmp_path / "pairs.jsonl").read_text().splitlines()[0])
    assert line["asked"] == "prompt 0" and line["gap"] == 0.5
    assert line["chosen"] == {"id": "0-2", "file": "audio/0-2.wav", "wer": 0.5, "heard": "words"}
    assert (tmp_path / line["rejected"]["file"]).is_file()


def test_mining_goes_on_where_it_was(tmp_path):
    mined(tmp_path, count=1)
    before = (tmp_path / "manifest.jsonl").read_text()
    mined(tmp_path)
    assert (tmp_path / "manifest.jsonl").read_text().startswith(before)
    assert len(SampleSet(tmp_path)) == 9
    assert json.loads((tmp_path / "skipped.jsonl").read_text())["id"] == "3"
    with pytest.raises(DataError, match="samples 3, not 4"):
        mine(PROMPTS, draw, [wer], MineConfig(tmp_path, samples=4))


def sample(number, **measured):
    return Sample(f"p-{number}", "p", "text", measured=measured)


def test_costs_add_up_and_more_may_be_better():
    samples = [sample(0, wer=0.1, dnsmos=3.0), sample(1, wer=0.2, dnsmos=4.0), sample(2, wer=0.4, dnsmos=3.0)]
    ids = [(a.id, b.id) for a, b in choose(samples, PairConfig({"wer": 1.0, "dnsmos": -0.2}, margin=0.01, most=5))]
    assert ids == [("p-1", "p-2"), ("p-1", "p-0")]  # 0.2 - 0.8 is the least, then 0.1 - 0.6, then 0.4 - 0.6
    assert choose(samples, PairConfig({"dnsmos": -1.0}, margin=1.5)) == []
    with pytest.raises(DataError, match="no measure 'pauses': rank by wer, dnsmos"):
        choose(samples, PairConfig({"pauses": 1.0}))


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "line 1 is no pair"),
        ('{"chosen": {"id": "0-0"}}', "line 1 is no pair"),
        ('{"chosen": {"id": "0-0"}, "rejected": {"id": "9-9"}}', "no sample '9-9'"),
        ('{"chosen": {"id": "0-0"}, "rejected": {"id": "0-0"}}', "are equal"),
        ("", "holds no pairs"),
    ],
)
def test_a_broken_list_of_pairs_says_where(tmp_path, line, told):
    mined(tmp_path)
    (tmp_path / "pairs.jsonl").write_text(line + "\n")
    with pytest.raises(DataError, match=told):
        PreferencePairs(tmp_path)


def test_pairs_must_have_been_chosen(tmp_path):
    mined(tmp_path)
    with pytest.raises(DataError, match="antiphon data preferences pairs"):
        PreferencePairs(tmp_path)


@pytest.mark.parametrize("fields", [{"rank": {}}, {"margin": 0.0}, {"most": 0}, {"rank": {"wer": float("nan")}}])
def test_settings_that_make_no_pairs_are_refused(fields):
    with pytest.raises(DataError):
        PairConfig(**fields)
