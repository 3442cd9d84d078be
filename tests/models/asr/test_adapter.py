"""The adapter: CTC by hand, padding, gradients, one batch learnt by heart, its pieces."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from antiphon.errors import ModelError
from antiphon.models.asr.adapter import (
    Adapter,
    AdapterConfig,
    Spelling,
    adapter_lengths,
    collapse,
    ctc_frames,
    ctc_loss,
)

TINY = AdapterConfig(features=12, width=16, blocks=2, kernel=3, inner=24, embedding=10, pieces=9, merges=5, dropout=0.0)
TEXTS = ["hello there my friend", "the weather there is fine", "hello hello, is there a friend here?"]


def tiny(seed: int = 0) -> Adapter:
    torch.manual_seed(seed)
    adapter = Adapter(TINY)
    adapter.set_embeddings(torch.randn(TINY.pieces, TINY.embedding) + 3.0)
    return adapter


@pytest.fixture(scope="module")
def tokenizer() -> str:
    """A byte-level BPE of some dozens of merges, as json."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    made.train_from_iterator(TEXTS * 5, trainer)
    return made.to_str()


def test_collapse_is_the_ctc_rule() -> None:
    assert collapse([0, 7, 7, 0, 7, 3, 3, 0]) == [7, 7, 3]
    assert collapse([]) == [] and collapse([0, 0]) == []
    assert ctc_frames([7, 7, 3]) == 4 and ctc_frames([]) == 0


def test_ctc_loss_by_hand() -> None:
    # Two frames, target [1]: the paths are (1, 1), (0, 1) and (1, 0).
    probabilities = torch.tensor([[[0.5, 0.3, 0.2], [0.1, 0.6, 0.3]]])
    expected = -math.log(0.3 * 0.6 + 0.5 * 0.6 + 0.3 * 0.1)
    assert float(ctc_loss(probabilities.log(), torch.tensor([2]), [[1]])) == pytest.approx(expected, rel=1e-5)
    # In one frame the target [1, 1] cannot be said: it counts as nothing, and so does its gradient.
    logits = torch.randn(1, 1, 3, requires_grad=True)
    loss = ctc_loss(logits, torch.tensor([1]), [[1, 1]])
    loss.backward()
    assert float(loss.detach()) == 0.0 and not logits.grad.any()


def test_padding_changes_nothing() -> None:
    adapter = tiny().eval()
    short, long = torch.randn(7, 12), torch.randn(20, 12)
    both = torch.nn.utils.rnn.pad_sequence([short, long], batch_first=True, padding_value=5.0)
    # An odd last frame is doubled when a row stands alone; in a batch its neighbour is padding, so compare an even one.
    out = adapter(both, torch.tensor([6, 20]))
    alone = adapter(short[None, :6])
    assert adapter_lengths(torch.tensor([6, 7, 20])).tolist() == [3, 4, 10]
    assert torch.allclose(out[0, :3], alone[0], atol=1e-5)
    assert torch.allclose(out[1], adapter(long[None])[0], atol=1e-5)


def test_logits_are_cosines_of_centred_embeddings() -> None:
    adapter = tiny().eval()
    assert torch.allclose(adapter.embeddings.norm(dim=-1), torch.ones(9), atol=1e-5)
    with torch.no_grad():
        logits = adapter.logits(3.0 * adapter.embeddings[None])[0]
        assert (logits[:, 1:].argmax(-1) == torch.arange(9)).all()
        assert torch.allclose(logits[torch.arange(9), torch.arange(9) + 1], adapter.scale.exp().expand(9), atol=1e-4)


def test_every_parameter_learns_and_the_embeddings_do_not() -> None:
    adapter = tiny()
    loss = ctc_loss(adapter.logits(adapter(torch.randn(2, 16, 12))), torch.tensor([8, 8]), [[1, 2], [3]])
    loss.backward()
    for name, parameter in adapter.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all() and parameter.grad.any(), name
    assert "embeddings" not in dict(adapter.named_parameters()) and not adapter.embeddings.requires_grad


def test_one_batch_is_learnt_by_heart(tmp_path: Path) -> None:
    adapter, targets = tiny(), [[1, 2, 3], [4, 4, 5], [9, 1]]
    features, lengths = torch.randn(3, 20, 12), torch.tensor([20, 20, 16])
    optimizer = torch.optim.AdamW(adapter.parameters(), lr=1e-2)
    for _ in range(150):
        loss = ctc_loss(adapter.logits(adapter(features, lengths)), adapter_lengths(lengths), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    adapter.eval()
    assert float(loss.detach()) < 0.1 and adapter.best(features, lengths) == targets
    adapter.save(tmp_path, list(range(100, 109)), {"note": "x"})
    again, ids = Adapter.from_pretrained(tmp_path)
    assert ids == list(range(100, 109)) and again.best(features, lengths) == targets
    assert json.loads((tmp_path / "config.json").read_text())["note"] == "x"


def test_spelling_uses_the_tokenizers_own_first_merges(tokenizer: str) -> None:
    from tokenizers import Tokenizer

    own = Tokenizer.from_str(tokenizer)
    few, many = Spelling(tokenizer, 10), Spelling(tokenizer, 10_000)
    for text in TEXTS:
        assert few.text(few.spell(text)) == text and many.text(many.spell(text)) == text
        assert [many.ids[i - 1] for i in many.spell(text)] == own.encode(text).ids
        assert len(few.spell(text)) > len(many.spell(text))
    known = sorted({few.ids[i - 1] for i in few.spell("hello there")})
    some = Spelling(tokenizer, 10, known)
    assert some.text(some.spell("hello there")) == "hello there"
    assert some.spell("zzz") == []


def test_errors_say_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds no adapter"):
        Adapter.from_pretrained(tmp_path)
    with pytest.raises(ModelError, match="kernel"):
        AdapterConfig(kernel=4)
    with pytest.raises(ModelError, match="byte-pair"):
        Spelling('{"model": {"type": "WordLevel"}}', 5)
