"""Models that go through `transformers` give its numbers, in pieces, in rows out of step, and with adapters."""

from pathlib import Path
from typing import Any

import pytest
import torch

from antiphon.models.llm.load import load_causal_lm
from antiphon.models.llm.published import PublishedLM
from antiphon.models.lora import Lora, LoraConfig
from antiphon.nn.cache import join
from tests.models.llm.test_llama import make

FAMILIES: dict[str, dict[str, Any]] = {
    "Gemma2": dict(head_dim=16, sliding_window=8, final_logit_softcapping=5.0),
    "Gemma3": dict(head_dim=16, sliding_window=8, layer_types=["sliding_attention", "full_attention"]),
    "Phi3": dict(pad_token_id=0),
    "Mistral": dict(sliding_window=8),
    "Cohere": dict(logit_scale=0.25),
}


@pytest.fixture(params=FAMILIES, scope="module")
def theirs(request, tmp_path_factory) -> tuple[torch.nn.Module, Path]:
    folder = tmp_path_factory.mktemp("model")
    kind = request.param
    if kind == "Gemma3":  # its text part is called otherwise
        import transformers

        torch.manual_seed(0)
        from tests.models.llm.test_llama import SIZES

        model = transformers.Gemma3ForCausalLM(transformers.Gemma3TextConfig(**SIZES | FAMILIES[kind])).eval()
        model.save_pretrained(folder)
        return model, folder
    return make(kind, folder, FAMILIES[kind]), folder


@torch.no_grad()
def test_logits_are_those_of_transformers(theirs) -> None:
    model, folder = theirs
    ours = load_causal_lm(folder)
    assert isinstance(ours, PublishedLM)
    tokens = torch.randint(50, (2, 30), generator=torch.Generator().manual_seed(1))
    want = model(tokens).logits
    x = ours.embed(tokens)
    torch.testing.assert_close(ours.logits(ours(x)), want, atol=1e-4, rtol=1e-4)
    cache = ours.init_cache(2)
    pieces = torch.cat([ours(piece, cache) for piece in x.split((20, 1, 9), dim=1)], 1)
    torch.testing.assert_close(ours.logits(pieces), want, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_rows_out_of_step_give_what_each_gives_alone(theirs) -> None:
    ours = load_causal_lm(theirs[1])
    x = ours.embed(torch.randint(50, (2, 24), generator=torch.Generator().manual_seed(2)))
    alone = [ours(x[row : row + 1, :end], ours.init_cache()) for row, end in ((0, 24), (1, 15))]
    caches = [ours.init_cache(), ours.init_cache()]
    ours(x[:1, :20], caches[0]), ours(x[1:, :12], caches[1])
    both = join(caches)
    out = ours(torch.stack((x[0, 20:], torch.cat((x[1, 12:15], x[1, :1])))), both, None, torch.tensor([4, 3]))
    torch.testing.assert_close(out[0], alone[0][0, 20:], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(out[1, :3], alone[1][0, 12:], atol=1e-4, rtol=1e-4)
    assert both.length.tolist() == [24, 15]


@torch.no_grad()
def test_adapters_are_added_and_gone_again(theirs) -> None:
    ours = load_causal_lm(theirs[1])
    torch.manual_seed(3)
    lora = Lora(ours, LoraConfig(rank=2, linears=("o_proj",)))
    x = ours.embed(torch.arange(6)[None])
    plain = ours(x)
    for parameter in lora.parameters():
        parameter.normal_(std=0.3)
    adapted = ours(x, lora=lora)
    assert not torch.allclose(adapted, plain) and torch.equal(ours(x), plain)
    lora.merge(ours)
    torch.testing.assert_close(ours(x), adapted, atol=1e-4, rtol=1e-4)
