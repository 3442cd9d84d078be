from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from antiphon.data.formats.example import Example
from antiphon.data.formats.formats import speech, speech_to_text
from antiphon.data.formats.item import Item
from antiphon.errors import ModelError
from antiphon.models.llm.llama import Llama, published_key
from antiphon.models.speech_lm.model import SpeechLM
from antiphon.models.speech_lm.vocabulary import NOTHING, SpeechVocabulary
from tests.models.speech_lm.tiny import speech_lm, text_model, tokenizer, vocabulary


def test_ids_of_units_and_back():
    one, two = vocabulary(), vocabulary(codebooks=2, deduplicated=False)
    assert one.units(np.array([0, 19])).tolist() == [one.first_unit, one.size - 1]
    codes = np.array([[3, 4, NOTHING], [NOTHING, 19, 0]])
    ids = two.units(codes)
    assert ids.tolist() == [
        [two.first_unit + 3, two.first_unit + 4, -1],
        [-1, two.first_unit + 39, two.first_unit + 20],
    ]
    assert (two.codes(ids) == codes).all()
    names = {two.token_name(i) for i in range(two.text, two.size)}
    assert len(names) == two.size - two.text  # no two alike
    assert SpeechVocabulary.from_dict(two.to_dict()) == two


def test_what_is_beyond_the_vocabulary_is_refused():
    with pytest.raises(ModelError, match="0 to 20 are beyond this vocabulary's 20"):
        vocabulary().units(np.array([0, 20]))
    with pytest.raises(ModelError, match="no tag 'speaker:ann'.*speaker:joe"):
        vocabulary().tag("speaker:ann")
    with pytest.raises(ModelError, match="can't be deduplicated"):
        vocabulary(codebooks=2)


@pytest.mark.parametrize(("kind", "tied"), [("llama", True), ("llama", False), ("qwen2", True), ("qwen3", False)])
def test_a_text_model_is_extended_and_transformers_loads_it(tmp_path, kind, tied):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = text_model(tmp_path / "text", tied, kind)
    old = Llama.from_pretrained(source)
    model = SpeechLM.from_text(source, vocabulary(text=old.config.vocab_size), layers=2)
    model.save_pretrained(tmp_path / "out")
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    assert len(whole.model.layers) == 2
    tokens = torch.tensor([[model.vocabulary.tag("B"), model.vocabulary.first_unit, 7, model.vocabulary.tag("T"), 9]])
    with torch.no_grad():
        theirs, hidden = whole(tokens).logits, model(tokens)
    for in_text in (False, True):
        ours = model.logits(hidden, 0, in_text)
        assert torch.allclose(ours, theirs[..., model.vocabulary.head(0, in_text)], atol=1e-5)
    again = SpeechLM.from_pretrained(tmp_path / "out")
    assert again.vocabulary == model.vocabulary
    assert torch.equal(again(tokens), model(tokens))
    words = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert words.convert_tokens_to_ids("<|u3|>") == model.vocabulary.first_unit + 3
    assert words.convert_tokens_to_ids("<|speaker:joe|>") == model.vocabulary.tag("speaker:joe")
    assert words.decode(model.text_ids("the cat")) == "the cat"


def test_first_and_last_layers_are_kept(tmp_path):
    source = text_model(tmp_path / "text")
    old = Llama.from_pretrained(source)
    sizes = vocabulary(text=old.config.vocab_size)
    first, last = SpeechLM.from_text(source, sizes, layers=2, last_layers=1).lm.layers
    for kept, whole in ((first, old.layers[0]), (last, old.layers[2])):
        assert all(torch.equal(a, b) for a, b in zip(kept.state_dict().values(), whole.state_dict().values()))
    with pytest.raises(ModelError, match="of 2 layers 2 can't be the last ones"):
        SpeechLM.from_text(source, sizes, layers=2, last_layers=2)
    with pytest.raises(ModelError, match="give layers, too"):
        SpeechLM.from_text(source, sizes, last_layers=1)


def test_new_rows_have_mean_and_spread_of_the_old_and_tags_are_near_their_words(tmp_path):
    source = text_model(tmp_path / "text")
    old = Llama.from_pretrained(source).embed_tokens.weight
    model = SpeechLM.from_text(source, vocabulary(text=len(old), codebook_size=3000))
    rows = model.lm.embed_tokens.weight
    assert torch.equal(rows[: len(old)], old)
    units = rows[model.vocabulary.first_unit :]
    assert torch.allclose(units.mean(0), old.mean(0), atol=4 * float(old.std()) / 3000**0.5)
    assert torch.allclose(units.std(0), old.std(0), rtol=0.1)
    text = old[model.text_ids(" text")].mean(0)
    tags = rows[len(old) : model.vocabulary.first_unit]
    near = F.cosine_similarity(tags, text[None])
    assert near.argmax() == model.vocabulary.names.index("T") and near.max() > 0.9
    assert all(not torch.equal(a, b) for i, a in enumerate(tags) for b in tags[i + 1 :])


def test_text_is_never_read_as_a_tag(tmp_path):
    source = text_model(tmp_path / "text")
    model = SpeechLM.from_text(source, vocabulary(text=tokenizer().get_vocab_size() + 3))
    model.save_pretrained(tmp_path / "out")
    again = SpeechLM.from_pretrained(tmp_path / "out")
    for each in (model, again):
        ids = each.text_ids("say <|S|> and <|u3|>")
        assert max(ids) < each.vocabulary.text
        assert each.text_of(ids) == "say <|S|> and <|u3|>"


def test_names_of_weights_are_those_of_transformers(tmp_path):
    from safetensors import safe_open

    for kind in ("qwen2", "qwen3"):
        source = text_model(tmp_path / kind, False, kind)
        with safe_open(source / "model.safetensors", "pt") as file:
            theirs = set(file.keys())
        assert {published_key(key) for key in Llama.from_pretrained(source).state_dict()} == theirs


def slow_losses(model: SpeechLM, example: Example) -> torch.Tensor:
    """Token by token, each with a model that has read what is before it and nothing else."""
    grid, found = torch.from_numpy(np.atleast_2d(example.tokens)), []
    for at in range(1, grid.shape[1]):
        hidden = model(grid[None, :, :at] if len(grid) > 1 else grid[:, :at])[0, -1]
        parts = []
        for stream in range(len(grid)):
            if (target := int(grid[stream, at])) != NOTHING:
                before = next(int(token) for token in grid[0, :at].flip(0) if token != NOTHING)
                text = stream == 0 and (0 <= before < model.vocabulary.text or before == model.vocabulary.tag("T"))
                head = model.vocabulary.head(stream, text)
                parts.append(-model.logits(hidden, stream, text).log_softmax(-1)[target - head.start])
        found.append(float(example.weights[at]) * torch.stack(parts).mean())
    return torch.stack(found)


@pytest.mark.parametrize("codebooks", [1, 3])
@torch.no_grad()
def test_losses_are_those_of_one_step_at_a_time(codebooks):
    model = speech_lm(codebooks=codebooks, deduplicated=codebooks == 1)
    units = np.random.default_rng(0).integers(0, 20, (codebooks, 9))
    item = Item(units if codebooks > 1 else units[0], "the cat sat", speaker="joe")
    for example in (speech(item, model), speech_to_text(item, model)):
        fast = model.losses(torch.from_numpy(example.tokens)[None], torch.from_numpy(example.weights)[None])[0]
        assert torch.allclose(fast, slow_losses(model, example), atol=1e-5)


@torch.no_grad()
def test_steps_with_a_cache_give_what_the_whole_gives():
    model = speech_lm()
    tokens = torch.from_numpy(speech(Item(np.arange(12)), model).tokens)[None]
    cache = model.lm.init_cache(1)
    steps = torch.cat([model(tokens[:, at : at + 1], cache) for at in range(tokens.shape[1])], 1)
    assert torch.allclose(steps, model(tokens), atol=1e-5)


def test_every_weight_learns_and_a_batch_is_learnt_by_heart():
    torch.manual_seed(0)
    model = speech_lm(codebooks=2, deduplicated=False).train()
    item = Item(np.random.default_rng(1).integers(0, 20, (2, 10)), "the cat sat on the mat")
    example = speech_to_text(item, model)
    tokens, weights = torch.from_numpy(example.tokens)[None], torch.from_numpy(example.weights)[None]
    optimizer, first = torch.optim.AdamW(model.parameters(), lr=1e-2), None
    for _ in range(80):
        loss = model.losses(tokens, weights).sum() / weights[:, 1:].sum()
        optimizer.zero_grad()
        loss.backward()
        if first is None:
            first = loss.item()
            assert all(torch.isfinite(p.grad).all() and p.grad.abs().sum() > 0 for p in model.parameters())
        optimizer.step()
    assert first > 2.5 and loss.item() < 0.05
