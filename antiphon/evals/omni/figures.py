"""Every figure that an Omni must show (`antiphon eval omni`)."""

from __future__ import annotations

from functools import partial

from antiphon.evals.harness import Group
from antiphon.evals.omni import gate, voice
from antiphon.evals.omni.questions import NAMES, right

GROUPS: dict[str, Group] = {
    **{maker: Group(partial(right, maker=maker), 300, (name,)) for maker, name in NAMES.items()},
    "spoken": Group(voice.spoken_questions, 100, ("spoken-questions-right",)),
    "say": Group(voice.say, 100, ("say-wer-omni", "say-wer-omni-sentences", "say-wer-omni-replies")),
    "gate": Group(gate.gate, 60, ("resync-gate", "talker-semantic-nats", "talker-acoustic-nats")),
    "latency": Group(voice.first_audio, 10, ("first-audio-omni-s",), alone=True),
}
