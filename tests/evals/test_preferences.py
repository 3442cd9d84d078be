"""What samples are ranked by."""

import numpy as np
import torch

from antiphon.audio.io import Audio
from antiphon.data.preferences.mine import Drawn, Prompt
from antiphon.evals.preferences import Hears, measure_replies


class Judge:
    def compare(self, clips, texts):
        assert len(clips) == len(texts) == 3
        return [("red green blue", 0.1), ("red greed", 0.5), ("hm", 1.0)]


def test_hearing_counts_words_and_nats():
    sound = Drawn(np.zeros((1, 1), int), audio=Audio(torch.zeros(1), 16000))
    prompts = [Prompt("a", "Red, green, blue."), Prompt("a", "Red, green, blue."), Prompt("b", "...")]
    found = Hears(Judge())(prompts, [sound] * 3)
    assert [each["wer"] for each in found] == [0.0, 0.6667, 0.0]  # where there are no words none can be wrong
    assert found[1] == {"wer": 0.6667, "nats": 0.5, "heard": "red greed"}


def test_replies_are_right_or_go_round_in_circles():
    prompt = Prompt("a", "What is the capital of Italy?", {"accept": ["Rome"]})
    said = ["It is Rome.", "It is Milan.", "of it of it of it of it of it of it"]
    found = measure_replies([prompt] * 3, [Drawn(np.zeros((1, 1), int), text) for text in said])
    assert [each["right"] for each in found] == [1.0, 0.0, 0.0]
    assert [each["loops"] for each in found] == [0.0, 0.0, 1.0] and found[0]["words"] == 3.0


def test_a_number_within_another_is_no_answer():
    prompt = Prompt("a", "What is four times five?", {"accept": ["twenty"]})
    said = ["Four times five is twenty.", "It is 20.", "Four times five is twenty-five."]
    found = measure_replies([prompt] * 3, [Drawn(np.zeros((1, 1), int), text) for text in said])
    assert [each["right"] for each in found] == [1.0, 1.0, 0.0]
