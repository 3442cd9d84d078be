"""What samples are ranked by when preference pairs are mined: measures of `antiphon.data.preferences.mine`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from antiphon.data.dialogue.codes import CodedDialogue
from antiphon.data.dialogue.monologue import monologue_words
from antiphon.data.preferences.mine import Drawn, Prompt
from antiphon.evals.asr_judge import AsrJudge
from antiphon.evals.duplex.metrics import cases, from_words, measure
from antiphon.evals.metrics.answers import is_right, last_number
from antiphon.evals.metrics.speech import dnsmos
from antiphon.evals.metrics.text import count_words, loops, word_error_rate
from antiphon.models.moshi.bundle import Duplex

NO_ANSWER_SECONDS = 6.0  # that a turn without an answer counts


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
            "right": float(_is_right(answer.answer, prompt.about["accept"])),
            "loops": float(loops(answer.answer)),
            "words": float(count_words(answer.answer)),
        }
        for prompt, answer in zip(prompts, answers)
    ]


def _is_right(reply: str, accept: Sequence[str]) -> bool:
    """As `is_right`, but that a reply which ends on another number is wrong: "twenty-five" holds "twenty"."""
    numbers = {last_number(answer) for answer in accept}
    return is_right(reply, accept) and (None in numbers or last_number(reply) in numbers)


class Timing:
    """How a duplex model took turns: `early`, the share of the user's turns that it took before their end; `latency`,
    seconds from their ends to its answers, on average; `overlap`, seconds in which it speaks into the user's turns,
    over their length.

    When it speaks is told by its inner monologue, so that nothing must be decoded.

    Args:
        duplex: whose answers they are.
    """

    def __init__(self, duplex: Duplex) -> None:
        self.duplex = duplex

    def __call__(self, prompts: Sequence[Prompt], answers: Sequence[Drawn]) -> list[dict[str, Any]]:
        return [self._one(prompt.about["dialogue"], answer) for prompt, answer in zip(prompts, answers)]

    def _one(self, dialogue: CodedDialogue, answer: Drawn) -> dict[str, Any]:
        config, rate = self.duplex.moshi.config, self.duplex.frame_rate
        words = monologue_words(answer.array[0], rate, self.duplex.pieces, config.pad, config.end_pad)
        seconds, segments = answer.array.shape[1] / rate, from_words(words)
        turns = [case for case in cases(dialogue.events, dialogue.seconds) if case.end < seconds]
        outcomes = [measure(replace(case, until=min(case.until, seconds)), segments, words) for case in turns]
        waits = [
            NO_ANSWER_SECONDS if outcome.reply is None else min(NO_ANSWER_SECONDS, max(0.0, outcome.latency or 0.0))
            for outcome in outcomes
            if outcome.task != "backchannel"
        ]
        early = [
            outcome.takeover if outcome.task in ("pause", "backchannel") else (outcome.latency or 0.0) < 0
            for outcome in outcomes
        ]
        spoken = sum(case.end - case.start for case in turns)
        both = sum(max(0.0, min(b, c.end) - max(a, c.start)) for a, b in segments for c in turns)
        return {
            "early": round(sum(early) / max(1, len(early)), 4),
            "latency": round(sum(waits) / max(1, len(waits)), 4),
            "overlap": round(both / spoken, 4) if spoken else 0.0,
        }
