"""A language model on another device: what it gives is the same, and lies where conversations are."""

from pathlib import Path

import pytest
import torch

from antiphon.errors import ConfigError
from antiphon.models.llm.llama import Llama, LlamaConfig
from antiphon.models.llm.load import Forgets, ReadsTogether, load_causal_lm
from antiphon.models.llm.placed import Placed
from antiphon.models.llm.thinker import Thinker
from antiphon.nn.placement import placement
from tests.models.llm.test_thinker import TEMPLATE, make_llm

SIZES = LlamaConfig(
    hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
    head_dim=8, vocab_size=40, tie_word_embeddings=False,
)  # fmt: skip


class Refusing(Llama):
    """Takes tensors of its own device alone, as on a GPU."""

    def embed(self, tokens):
        return super().embed(self._checked(tokens))

    def forward(self, x, cache=None, lora=None, counts=None):
        assert counts is None or self._checked(counts) is counts
        return in_memory(self._checked(x), cache)

    def read_together(self, rows, caches, lora=None):
        return [in_memory(self._checked(row), cache) for row, cache in zip(rows, caches)]

    def logits(self, hidden):
        return super().logits(self._checked(hidden))

    def _checked(self, given):
        assert given.device == self.norm.device
        return given


def in_memory(x, cache):
    """What is read, where its cache lies beside it; nothing can be computed that depends on what a cache holds."""
    assert cache is None or cache.buffer.device == x.device
    return x


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("llm")
    make_llm(folder, TEMPLATE)
    return folder


@torch.inference_mode()
def test_it_reads_thinks_and_forgets_as_the_model_does(folder: Path) -> None:
    plain, placed = load_causal_lm(folder), Placed(load_causal_lm(folder), "cpu")
    assert isinstance(placed, Forgets) and isinstance(placed, ReadsTogether)
    assert (placed.width, placed.context) == (plain.width, plain.context)
    tokens, told = torch.tensor([[5, 9, 30, 7], [3, 4, 5, 6]]), []
    for model in (plain, placed):
        cache = model.init_cache(2)
        hidden = model(model.embed(tokens), cache, counts=torch.tensor([4, 2]))
        one = cache.fork([0])
        model.forget(one, 1, 2)
        together = model.read_together([model.embed(tokens[1, :2]), model.embed(tokens[0, :1])], [one, cache.fork([1])])
        told.append([hidden, model.logits(hidden), *together, one.length])
    for ours, theirs in zip(*told):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_what_goes_in_and_comes_out_is_on_the_cpu(monkeypatch) -> None:
    """By PyTorch's device without memory, copies from which are empty."""
    monkeypatch.setattr(torch.Tensor, "cpu", lambda self: torch.zeros_like(self, device="cpu"))
    model = Placed(Refusing(SIZES).bfloat16(), "meta")
    assert {weight.device.type for weight in model.parameters()} == {"meta"}
    assert model.init_cache().buffer.device.type == "meta"
    x = model.embed(torch.tensor([[1, 2, 3]]))
    hidden = model(x)
    logits = model.logits(hidden)
    assert {(each.device.type, each.dtype) for each in (x, hidden, logits)} == {("cpu", torch.float32)}
    assert logits.shape == (1, 3, 40)
    counted = model(x, model.init_cache(), counts=torch.tensor([3]))
    (row,) = model.read_together([x[0]], [model.init_cache()])
    assert counted.device.type == row.device.type == "cpu"
    with pytest.raises(AssertionError):
        model.model.logits(hidden)


def test_weights_of_half_the_size_think_nearly_the_same(folder: Path) -> None:
    plain, half = Thinker.from_pretrained(folder), Thinker.from_pretrained(folder, dtype=torch.bfloat16)
    assert half.model.norm.dtype == torch.bfloat16
    chances = []
    for thinker in (plain, half):
        state = thinker.init_state(voice=False)
        thinker.add_user(state, "hello there")
        chances.append(thinker.model.logits(state.hidden).softmax(-1))
    assert (chances[0] - chances[1]).abs().max() < 0.05 and not torch.equal(*chances)


def test_devices_and_types_are_called_by_name() -> None:
    assert placement("cpu", None) == (torch.device("cpu"), None)
    assert placement("cpu", "float16") == (torch.device("cpu"), torch.float16)
    assert placement(torch.device("meta"), None) == (torch.device("meta"), torch.bfloat16)
    assert placement("meta", torch.float32)[1] == torch.float32
    with pytest.raises(ConfigError, match="no device 'gpu'"):
        placement("gpu", None)
    with pytest.raises(ConfigError, match="float32, float16, bfloat16, not 'int4'"):
        placement("cpu", "int4")


@pytest.mark.parametrize("device", ["cpu", *(["cuda"] if torch.cuda.is_available() else [])])
def test_a_thinker_says_the_same_everywhere(folder: Path, device: str) -> None:
    said = []
    for thinker in (Thinker.from_pretrained(folder), Thinker.from_pretrained(folder, None, device, torch.float32)):
        state = thinker.init_state(voice=False)
        thinker.add_user(state, "hello there")
        said.append([token.text for token, _ in zip(thinker.stream(state), range(20))])
    assert said[0] == said[1] and said[0]
