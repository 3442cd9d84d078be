"""The thinker's states of a text: those that it has when it thinks that text itself, however many texts go together."""

from functools import partial

import numpy as np
import torch

from antiphon.data.speech.utterances import Turn
from antiphon.data.states import ASKED, StateSet, beginnings, think_beginnings, think_set, thought_states
from antiphon.models.tts.phonemes import Phonemizer
from tests.models.llm.test_thinker import adapted, folder, thinker  # noqa: F401

TEXTS = ["The capital of Italy is Rome.", "Yes.", "A spider has eight legs."]


@torch.inference_mode()
def test_states_are_those_of_thinking_token_by_token(adapted):  # noqa: F811
    state = adapted.init_state(voice=True)
    adapted.add_user(state, ASKED)
    tokens, slow = adapted.tokenizer.encode(TEXTS[0]).ids, [state.hidden]
    for token in tokens[:-1]:
        slow.append(adapted.model(adapted.model.embed(torch.tensor([[token]])), state.cache, adapted.lora)[0, -1])
    (pieces, hidden), *_ = thought_states(adapted, TEXTS[:1])
    assert "".join(pieces) == TEXTS[0] and len(pieces) == len(hidden)
    torch.testing.assert_close(hidden, torch.stack(slow), atol=2e-3, rtol=1e-3)


def test_texts_together_have_the_states_of_each_alone(adapted):  # noqa: F811
    for text, (pieces, hidden) in zip(TEXTS, thought_states(adapted, TEXTS)):
        alone = thought_states(adapted, [text])[0]
        assert pieces == alone[0]
        torch.testing.assert_close(hidden, alone[1], atol=1e-4, rtol=1e-4)


def test_a_set_keeps_its_order_and_leaves_out_what_was_spoken_otherwise(adapted, tmp_path):  # noqa: F811
    class Coded:
        def __init__(self, text: str, extra: int = 0):
            self.text, self.symbols = text, np.zeros(len(Phonemizer()(text)) + 2 + extra, np.int64)

    class Set(list):
        ids = ["a", "b", "c"]

        def context(self, index: int) -> tuple[Turn, ...]:
            return ()

    codes = Set([Coded(TEXTS[0]), Coded(TEXTS[1], extra=1), Coded(TEXTS[2])])
    assert len(think_set(codes, partial(thought_states, adapted), tmp_path, count=1)) == 1
    made = think_set(codes, partial(thought_states, adapted), tmp_path, count=9, batch=2)  # goes on
    again = StateSet(tmp_path)
    assert len(made) == len(again) == 3
    assert not again.hidden("b").any()
    for i in (0, 2):
        hidden, states = again.hidden(codes.ids[i]), thought_states(adapted, [TEXTS[i]])[0][1]
        assert hidden.shape[0] == len(codes[i].symbols) and not hidden[0].any() and not hidden[-1].any()
        rows = {tuple(np.round(row, 2)) for row in states.half().float().numpy()}
        assert {tuple(np.round(row, 2)) for row in hidden[1:-1] if row.any()} <= rows


@torch.inference_mode()
def test_what_was_said_and_heard_before_is_read(adapted, tmp_path):  # noqa: F811
    said = (Turn("user", "Whisper, please."), Turn("assistant", "Sure."), Turn("user", "What is the capital of Italy?"))
    heard = (Turn("user", "What is the capital of Italy?", "manner/whispered"),)
    begun = [beginnings(adapted, context) for context in ((), said, heard, said[:1], said[2:])]
    assert [len(states) for states in begun] == [1, 2, 1, 1, 1]
    for states, context in zip(begun, ((), said, heard, said[:1], said[2:])):
        (_, thought), *_ = thought_states(adapted, TEXTS[:1], context)
        torch.testing.assert_close(states[-1], thought[0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(begun[1][0], begun[3][0], atol=1e-4, rtol=1e-4)  # it began as if it were the only one
    lasts = [states[-1] for states in begun]
    assert all(not torch.allclose(a, b, atol=1e-3) for i, a in enumerate(lasts) for b in lasts[:i])
    state = adapted.init_state(voice=True)
    adapted.add_user(state, said[0].text)
    torch.testing.assert_close(begun[3][0], state.hidden, atol=1e-4, rtol=1e-4)

    class Set(list):
        ids = ["a", "b", "c"]

        def context(self, index: int) -> tuple[Turn, ...]:
            return (said, heard, said)[index]

    read = []
    codes = Set([None] * 3)
    think_beginnings(codes, lambda context: read.append(context) or beginnings(adapted, context), tmp_path, count=2)
    made = think_beginnings(codes, lambda context: read.append(context) or begun[1], tmp_path, count=3)
    assert read == [said, heard, said] and len(made) == 3
    for name, expected in zip("abc", (begun[1], begun[2], begun[1])):
        np.testing.assert_allclose(made.states(name), expected.numpy(), atol=2e-2)
    assert made.hidden("b").shape[0] == 0
