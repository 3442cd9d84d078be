"""Whether a talker that reads the thinker's states must be brought back to them (re-sync), as the thinker was trained.

The talker is given what a teacher said, code by code, and the thinker's states of the text: where they make its codes
dearer than no states at all do, they are not those that it learnt to read.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from antiphon import hub
from antiphon.data.omni.states import omni_states
from antiphon.data.speech.speak import SpeakConfig, mixed_sentences, speak
from antiphon.data.speech.timed_codes import TimedSet
from antiphon.data.states import Thoughts, think_set, thought_states
from antiphon.data.tokenize.encode import tokenized
from antiphon.errors import DataError, EvalError
from antiphon.evals.omni.questions import OmniEvaluation
from antiphon.evals.report import Figure
from antiphon.models.llm.thinker import Thinker
from antiphon.models.omni.speech import SynthesizerVoice
from antiphon.models.tts.talker import Talker
from antiphon.train.tts.talker import code_losses, collate

BATCH = 16


def gate(evaluation: OmniEvaluation, n: int) -> list[Figure]:
    """Nats that the talker's codes cost more with the thinker's states than with none, semantic and acoustic ones
    together; above 0 it is to be re-synced. Reference: the same beside mini's thinker, with which mini's talker was
    trained. The other two figures are what the codes cost with the states; reference: with none."""
    speaker = evaluation.backend.speaker
    if not isinstance(speaker, SynthesizerVoice) or not speaker.synthesizer.reads_thinker:
        raise EvalError("The gate is of a talker that stands beside the model and reads its states: there is none.")
    talker = speaker.synthesizer.talker
    spoken = held_out(evaluation, speaker, n)
    beside = Thinker.from_pretrained(hub.folder("thinker"), hub.folder("lora"))
    present = partial(omni_states, evaluation.backend.model, evaluation.backend.processor)
    none = nats(talker, spoken)
    own, before = nats(talker, spoken, present), nats(talker, spoken, partial(thought_states, beside))
    evaluation.save_items("gate", [{"none": none, "present": own, "mini": before}])
    return [
        Figure("resync-gate", sum(own) - sum(none), "nats", "<= 0", sum(before) - sum(none), len(spoken)),
        Figure("talker-semantic-nats", own[0], "nats", None, none[0], len(spoken)),
        Figure("talker-acoustic-nats", own[1], "nats", None, none[1], len(spoken)),
    ]


def held_out(evaluation: OmniEvaluation, speaker: SynthesizerVoice, n: int) -> TimedSet:
    """Sentences of the dev split as the teacher says them, in codes; made once.

    Raises:
        DataError: there are no texts.
    """
    if evaluation.config.texts is None:
        raise DataError("There are no texts to say. Give the folder of the text sources: --texts FOLDER.")
    folder, codec = evaluation.cached("omni-held-out"), speaker.synthesizer.codec
    sentences = mixed_sentences(evaluation.config.texts, {"assistant": 1.0}, "dev")
    speak(sentences, SpeakConfig(folder / f"speech-{n}", count=n, seconds=(1.0, 12.0), sample_rate=codec.sample_rate))
    codes = tokenized(
        folder / f"speech-{n}", codec, "mini", folder / f"codes-{n}", speaker.synthesizer.talker.config.lead
    )
    return TimedSet(codes)


@torch.inference_mode()
def nats(talker: Talker, spoken: TimedSet, thoughts: Thoughts | None = None) -> tuple[float, float]:
    """What a semantic and, on average, an acoustic code costs the talker, with a thinker's states or with none."""
    with tempfile.TemporaryDirectory() as scratch:
        states = think_set(spoken, thoughts, Path(scratch) / "states", len(spoken)) if thoughts is not None else None
        hidden = [None if states is None else states.hidden(identity) for identity in spoken.ids]
    order = np.argsort(spoken.frames, kind="stable").tolist()
    totals, count = torch.zeros(2), 0
    for at in range(0, len(order), BATCH):
        rows = order[at : at + BATCH]
        batch = collate([spoken[row] for row in rows], talker.config)
        batch["keep"] = (batch["grid"] >= 0).any(1)
        if states is not None:
            batch["hidden"] = _filled([hidden[row] for row in rows], batch["symbols"].shape[1])
        semantic, *acoustic = code_losses(talker(**batch)[0], batch)
        weight = int(spoken.frames[rows].sum())
        totals += weight * torch.stack([semantic, sum(acoustic) / max(1, len(acoustic))])
        count += weight
    return float(totals[0] / count), float(totals[1] / count)


def _filled(states: Sequence[np.ndarray], length: int) -> torch.Tensor:
    """[symbols, hidden] of each as [rows, length, hidden], zeros behind."""
    filled = np.zeros((len(states), length, states[0].shape[1]), np.float32)
    for row, each in enumerate(states):
        filled[row, : len(each)] = each
    return torch.from_numpy(filled)
