"""Conversations on several threads share steps and get what each gets alone."""

import copy
import time

import pytest
import torch

from antiphon.errors import ModelError
from antiphon.models.llm.llama import Llama
from antiphon.models.llm.sampling import TokenSampling
from antiphon.models.llm.thinker import Thinker
from tests.models.llm.test_thinker import adapted, folder, thinker  # noqa: F401
from tests.nn.test_batching import on_threads

ASKED = ["Hello?", "And what is this?", "x", "A longer question, with more words than the others."]


def test_rows_with_caches_of_their_own_give_what_each_gives_alone(folder):  # noqa: F811
    model = Llama.from_pretrained(folder)
    torch.manual_seed(0)
    before = [torch.randn(length, model.width) for length in (3, 9, 1)]
    rows = [torch.randn(length, model.width) for length in (1, 4, 2)]
    caches, alone = [model.init_cache() for _ in rows], [model.init_cache() for _ in rows]
    for own in (caches, alone):
        for x, cache in zip(before, own):
            model(x[None], cache)
    for got, x, cache in zip(model.read_together(rows, caches), rows, alone, strict=True):
        torch.testing.assert_close(got, model(x[None], cache)[0], atol=1e-5, rtol=1e-4)
    for one, other in zip(caches, alone):
        assert one.length == other.length
        held = int(one.length)
        torch.testing.assert_close(one.buffer[..., :held, :], other.buffer[..., :held, :], atol=1e-5, rtol=1e-4)


def test_one_that_is_too_long_has_nobody_read(folder):  # noqa: F811
    model = Llama.from_pretrained(folder)
    caches = [model.init_cache(), model.init_cache()]
    caches[1].length = caches[1].length + model.context
    with pytest.raises(ModelError, match="new conversation"):
        model.read_together([torch.randn(2, model.width), torch.randn(1, model.width)], caches)
    assert int(caches[0].length) == 0


@pytest.mark.parametrize("drawn", [TokenSampling(), TokenSampling(temperature=0.8, seed=3)])
def test_tokens_are_those_of_one_conversation_at_a_time(adapted, monkeypatch, drawn):  # noqa: F811
    """Voice and text, a reply that is abandoned, and a second turn."""

    def conversation(number: int) -> list[list[int]]:
        state, told = adapted.init_state(voice=number % 2 == 0), []
        for asked in (ASKED[number], "Go on."):
            adapted.add_user(state, asked)
            tokens = []
            for token in adapted.stream(state, 12, drawn):
                tokens.append(token.token)
                if number == 1 and len(tokens) == 5:
                    break
            told.append(tokens)
        return told

    wanted = [conversation(number) for number in range(len(ASKED))]
    read, sizes = Llama.read_together, []

    def together(self, rows, caches, lora=None):
        sizes.append(len(rows))
        return read(self, rows, caches, lora)

    run = Llama._run

    def slowly(self, *how):
        time.sleep(0.005)  # as a step of a real one takes its time, so that somebody is waited for
        return run(self, *how)

    monkeypatch.setattr(Llama, "read_together", together)
    monkeypatch.setattr(Llama, "_run", slowly)
    assert on_threads(*(lambda number=number: conversation(number) for number in range(len(ASKED)))) == wanted
    assert max(sizes) > 1


def test_a_copy_of_a_thinker_reads_with_its_own_weights(folder):  # noqa: F811
    one = Thinker.from_pretrained(folder)
    twin = copy.deepcopy(one)
    assert twin._run.model is twin.model and twin._run.batcher is twin.batcher is not one.batcher
    assert twin.reply("Hello?", max_tokens=4) == one.reply("Hello?", max_tokens=4)
