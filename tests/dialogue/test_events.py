"""An answer as a stream of events: sound starts before the text is complete, the seed decides, what is said is
what is thought.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch

from antiphon.codecs.mini.model import MiniCodec
from antiphon.dialogue.events import Answer, AudioEvent, EndEvent, Sampling, TextEvent
from antiphon.models.tts.phonemes import Phonemizer
from antiphon.models.tts.synthesizer import Synthesizer
from antiphon.models.tts.talker import Talker
from tests.codecs.mini.test_model import TINY as TINY_CODEC
from tests.models.tts.test_talker import TINY as TINY_TALKER

PIECES = [
    "The",
    " capital",
    " of",
    " Italy",
    " is",
    " Rome",
    ",",
    " and",
    " it",
    " has",
    " been",
    " so",
    " for",
    " long",
    ".",
]


@dataclass
class GeneratedToken:
    token: int
    text: str
    hidden: torch.Tensor


class ReadingThinker:
    """Thinks a fixed text; counts how far it was asked to think."""

    def __init__(self) -> None:
        self.thought = 0

    def stream(self, state, max_tokens, sampling) -> Iterator[GeneratedToken]:
        for token, text in enumerate(PIECES[:max_tokens]):
            self.thought += 1
            yield GeneratedToken(token, text, torch.randn(TINY_TALKER.hidden))


@pytest.fixture(scope="module")
def voice() -> Synthesizer:
    torch.manual_seed(0)
    talker = Talker(TINY_TALKER).eval()
    for linear in talker.out:
        torch.nn.init.normal_(linear.weight, std=0.5)
    torch.nn.init.constant_(talker.encoder.duration[-1].bias, 1.2)
    return Synthesizer(talker, MiniCodec(TINY_CODEC).eval(), Phonemizer())


def test_sound_starts_while_the_sentence_is_still_thought(voice):
    thinker = ReadingThinker()
    answer = Answer(thinker, None, voice)
    for event in answer.events():
        if isinstance(event, AudioEvent):
            assert thinker.thought < len(PIECES)
            break


def test_events_are_complete_and_in_order(voice):
    events = list(Answer(ReadingThinker(), None, voice).events())
    assert "".join(e.text for e in events if isinstance(e, TextEvent)) == "".join(PIECES)
    assert isinstance(events[-1], EndEvent) and events[-1].text == "".join(PIECES) and not events[-1].interrupted
    sizes = {e.audio.samples.shape for e in events if isinstance(e, AudioEvent)}
    assert sizes == {(TINY_CODEC.samples_per_frame,)}


def test_the_same_seed_gives_the_same_sound(voice):
    def sound(seed: int) -> torch.Tensor:
        how = Sampling(seed=seed, temperature=1.0, top_k=0)
        events = Answer(ReadingThinker(), None, voice, how).events()
        return torch.cat([e.audio.samples for e in events if isinstance(e, AudioEvent)])

    assert torch.equal(sound(1), sound(1))
    one, two = sound(1), sound(2)
    assert not torch.equal(one[: len(two)], two[: len(one)])


def test_a_written_answer_has_no_sound_and_respects_its_limit():
    events = list(Answer(ReadingThinker(), None, None, Sampling(max_tokens=3)).events())
    assert [type(e) for e in events] == [TextEvent] * 3 + [EndEvent]
    assert events[-1].text == "The capital of"


def test_an_answer_to_nothing_ends_at_once(voice):
    events = list(Answer(ReadingThinker(), None, voice, Sampling(max_tokens=0)).events())
    assert isinstance(events[-1], EndEvent) and events[-1].text == ""
