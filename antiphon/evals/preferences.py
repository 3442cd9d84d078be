"""What samples are ranked by when preference pairs are mined: measures of `antiphon.data.preferences.mine`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from antiphon.data.preferences.mine import Drawn, Prompt
from antiphon.evals.asr_judge import AsrJudge
from antiphon.evals.metrics.answers import is_right
from antiphon.evals.metrics.speech import dnsmos
from antiphon.evals.metrics.text import count_words, loops, word_error_rate


class Hears:
    """`wer` of what the judge hears in each sound (`heard`), and `nats`: what it costs the judge, a token, to hear the
    text itself, which tells sounds apart in which every word is understood.

    Args:
        judge: hears.
    """

    def __init__(self, judge: AsrJudge) -> None:
        self.judge = judge

    def __call__(self, prompts: Sequence[Prompt], answers: Sequence[Drawn]) -> list[dict[str, Any]]:
        texts = [prompt.text for prompt in prompts]
        compared = self.judge.compare([answer.audio for answer in answers], texts)
        return [
            {"wer": round(_wer(text, heard), 4), "nats": round(nats, 4), "heard": heard}
            for text, (heard, nats) in zip(texts, compared)
        ]


def _wer(said: str, heard: str) -> float:
    try:
        return word_error_rate([said], [heard])
    except ValueError:  # nothing but punctuation
        return 0.0


def measure_dnsmos(prompts: Sequence[Prompt], answers: Sequence[Drawn]) -> list[dict[str, Any]]:
    """`dnsmos` of each sound: more is better."""
    return [{"dnsmos": round(dnsmos(answer.audio), 3)} for answer in answers]


def measure_replies(prompts: Sequence[Prompt], answers: Sequence[Drawn]) -> list[dict[str, Any]]:
    """`right`: 1 where a reply holds an accepted answer, else 0; `loops`: 1 where it goes round in circles; `words`."""
    return [
        {
            "right": float(is_right(answer.answer, prompt.about["accept"])),
            "loops": float(loops(answer.answer)),
            "words": float(count_words(answer.answer)),
        }
        for prompt, answer in zip(prompts, answers)
    ]
