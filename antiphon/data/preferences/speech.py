"""What a talker says, several times over: drawn in batches, and where it pauses though the text doesn't."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from antiphon.audio.io import Audio
from antiphon.data.preferences.mine import Drawn, Prompt, seed_of
from antiphon.errors import UnsayableError
from antiphon.models.tts.phonemes import alphabet
from antiphon.models.tts.synthesizer import Synthesizer
from antiphon.models.tts.talker import TalkerState, Utterance

WINDOW_SECONDS = 0.02
QUIET_DB = -35.0  # below the loud parts of the same utterance,
LOUD_DB = -50.0  # which have at least this level, in full scale: nothing said at all is silence
PAUSE_SECONDS = 0.2  # shorter silences are stops and breaths
SLACK_SECONDS = 0.12  # by which a pause may lie beside its mark


class TalkerDraws:
    """Answers of a talker to texts: see `antiphon.data.preferences.mine.Draw`.

    Args:
        synthesizer: speaks.
        temperature, top_k: of every sample.
        seed: of all samples.
    """

    def __init__(self, synthesizer: Synthesizer, temperature: float = 1.0, top_k: int = 0, seed: int = 0):
        self.synthesizer, self.how, self.seed = synthesizer, (temperature, top_k), seed

    def __call__(self, prompts: Sequence[Prompt], samples: int) -> list[list[Drawn]]:
        talker, codec = self.synthesizer.talker, self.synthesizer.codec
        read = [self._read(prompt.text) for prompt in prompts]
        states = [
            TalkerState(text, talker.init_state(seed_of(prompt, number, self.seed), *self.how).speech)
            for prompt, text in zip(prompts, read)
            if text is not None
            for number in range(samples)
        ]
        spoken = iter(talker.speak(states))
        answers: list[list[Drawn]] = []
        for text in read:
            codes = [next(spoken) for _ in range(samples)] if text is not None else []
            with torch.inference_mode():
                sounds = codec.decode(torch.stack(codes))[:, 0].cpu() if codes else ()
            about = {"phones": phones_of(text)} if text is not None else {}
            answers.append(
                [
                    Drawn(each.cpu().numpy(), audio=Audio(sound, codec.sample_rate), about=about)
                    for each, sound in zip(codes, sounds)
                ]
            )
        return answers

    def _read(self, text: str) -> Utterance | None:
        """The text on the clock, as the talker itself times it; None where it can't be said."""
        state = self.synthesizer.init_state()
        try:
            self.synthesizer.read(text, state)
        except UnsayableError:
            return None
        return state.talker.text


def phones_of(text: Utterance) -> list[tuple[str, float, float]]:
    """(phone, start, end) in seconds of a complete utterance; the last one, "", is the silence after it."""
    names = {number: phone for phone, number in alphabet().items()}
    ends = [round(float(end), 5) for end in text.ends[0]]
    said = [names[symbol] for symbol in text.symbols[1:-1]]
    return list(zip([*said, ""], ends[:-1], ends[1:]))


def measure_pauses(prompts: Sequence[Prompt], answers: Sequence[Drawn]) -> list[dict[str, Any]]:
    """`pauses`: see `pause_error`; and `seconds`, the length."""
    return [
        {"pauses": round(pause_error(answer.audio, answer.about["phones"]), 4), "seconds": answer.audio.duration}
        for answer in answers
    ]


def pause_error(audio: Audio, phones: Sequence[tuple[str, float, float]]) -> float:
    """Seconds of silence where the text has no mark, and of marked pauses in which somebody speaks, over the length of
    the speech.

    Args:
        audio: what was said.
        phones: (phone, start, end) of what was to be said; what isn't a sound (spaces, punctuation) may be a pause.
    """
    silent = quiet_runs(audio)
    first, last = phones[0][1], phones[-1][1]
    marks = [(start, end) for phone, start, end in phones if not any(map(str.isalpha, phone))]
    wrong = 0.0
    for start, end in silent:
        start, end = max(start, first), min(end, last)
        if end - start >= PAUSE_SECONDS:
            wrong += end - start - _covered(start, end, [(a - SLACK_SECONDS, b + SLACK_SECONDS) for a, b in marks])
    for start, end in marks[:-1]:
        if end - start >= PAUSE_SECONDS:
            wrong += max(0.0, end - start - SLACK_SECONDS - _covered(start, end, silent))
    return wrong / max(last - first, WINDOW_SECONDS)


def quiet_runs(audio: Audio) -> list[tuple[float, float]]:
    """(start, end) in seconds of the runs that are quiet against the loud parts."""
    step = round(WINDOW_SECONDS * audio.sample_rate)
    samples = audio.mono().samples.numpy()
    blocks = samples[: len(samples) // step * step].reshape(-1, step)
    level = 10 * np.log10(np.square(blocks, dtype=np.float64).mean(1) + 1e-10)
    quiet: NDArray = level < max(np.percentile(level, 95) if len(level) else LOUD_DB, LOUD_DB) + QUIET_DB
    edges = np.flatnonzero(np.diff(np.concatenate([[0], quiet.astype(np.int8), [0]])))
    return [(a * WINDOW_SECONDS, b * WINDOW_SECONDS) for a, b in zip(edges[::2].tolist(), edges[1::2].tolist())]


def _covered(start: float, end: float, spans: Sequence[tuple[float, float]]) -> float:
    """Seconds between start and end that lie in one of the spans (which may overlap)."""
    total, reached = 0.0, start
    for a, b in sorted(spans):
        a, b = max(a, reached), min(b, end)
        if b > a:
            total, reached = total + b - a, b
    return total
