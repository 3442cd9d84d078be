"""Which of several transcripts was said: where the decoder wavers, and what a language model makes of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tokenizers import Tokenizer, models

from antiphon.encoders.whisper.decoder import DecoderConfig, WhisperDecoder, Writing
from antiphon.models.asr import rescoring
from antiphon.models.asr.rescoring import reconsidered, wavering

CONFIG = DecoderConfig(
    width=16, layers=2, heads=2, inner=32, vocabulary=40, positions=64, start=(31, 32), end=30, no_speech=35,
    suppress_first=(30,),
)  # fmt: skip


@pytest.fixture(scope="module")
def decoder() -> WhisperDecoder:
    torch.manual_seed(0)
    decoder = WhisperDecoder(CONFIG).eval()
    for parameter in decoder.parameters():
        parameter.data.normal_(0, 0.15)
    return decoder


@pytest.fixture(scope="module")
def whisper() -> Tokenizer:
    """A word for each token."""
    return Tokenizer(models.WordLevel({f"w{number}": number for number in range(40)}, unk_token="w0"))


def written(decoder: WhisperDecoder, seed: int, draft: list[int] | None = None, **how) -> Writing:
    torch.manual_seed(seed)
    writing = decoder.begin(decoder.listen(torch.randn(1, 10, 16)), draft or [], 12, **how)
    while not writing.over:
        decoder.advance(writing)
    return writing


def ended(decoder: WhisperDecoder) -> list[Writing]:
    """Some transcripts that came to an end."""
    found = [one for one in (written(decoder, seed) for seed in range(40)) if one.ended]
    assert len(found) >= 3
    return found


def test_a_branch_is_what_the_decoder_writes_after_another_token(decoder: WhisperDecoder) -> None:
    for writing in ended(decoder):
        for at in range(len(writing.tokens)):
            branch = decoder.branch(writing, at)
            beginning = (*writing.start, *writing.tokens[:at], writing.rivals[at][0])
            while not branch.over:
                decoder.advance(branch)
            greedy = continued(decoder, writing, beginning, 12 - at - 1)
            assert branch.tokens[at + 1 :] == greedy
            assert branch.tokens[:at] == writing.tokens[:at] and branch.tokens[at] != writing.tokens[at]
            assert sum(branch.sure) == pytest.approx(likelihood(decoder, branch), abs=1e-3)
            assert writing.ended and len(writing.rivals) == len(writing.sure)  # stays as it is


@torch.no_grad()
def continued(decoder: WhisperDecoder, writing: Writing, beginning: tuple[int, ...], count: int) -> list[int]:
    """Plain greedy decoding behind tokens."""
    tokens = list(beginning)
    for _ in range(count):
        logits = decoder(torch.tensor([tokens]), writing.sound)[0][0, -1]
        logits[decoder.banned_in_english] = -torch.inf
        best = int(logits.argmax())
        if best == CONFIG.end:
            break
        tokens.append(best)
    return tokens[len(beginning) :]


@torch.no_grad()
def likelihood(decoder: WhisperDecoder, writing: Writing) -> float:
    """Of a transcript, read at once."""
    tokens = [*writing.tokens, *([CONFIG.end] if writing.ended else [])]
    logits = decoder(torch.tensor([[*writing.start, *tokens[:-1]]]), writing.sound)[0][0, len(writing.start) - 1 :]
    logits[:, decoder.banned_in_english] = -torch.inf
    logits[0, list(CONFIG.suppress_first)] = -torch.inf
    return float(logits.log_softmax(-1).gather(1, torch.tensor(tokens)[:, None]).sum())


def test_rivals_are_the_same_whether_a_draft_was_checked_or_not(decoder: WhisperDecoder) -> None:
    for seed in range(6):
        plain = written(decoder, seed)
        checked = written(decoder, seed, draft=plain.tokens)
        assert checked.passes < plain.passes
        count = len(plain.sure)
        assert [token for token, _ in checked.rivals][:count] == [token for token, _ in plain.rivals]
    torch.manual_seed(9)
    sounds = [decoder.listen(torch.randn(1, 10, 16)) for _ in range(3)]
    together = [decoder.begin(sound, [], 12) for sound in sounds]
    decoder.advance_together(together)
    for one, sound in zip(together, sounds):
        alone = decoder.begin(sound, [], 12)
        while not alone.over:
            decoder.advance(alone)
        assert [token for token, _ in one.rivals] == [token for token, _ in alone.rivals]


class Prefers:
    """A language model that finds one text likely, or all alike; it keeps what it was asked."""

    def __init__(self, wanted: str | None = None) -> None:
        self.wanted, self.asked = wanted, list[str]()

    def __call__(self, texts) -> list[tuple[float, int]]:
        self.asked = list(texts)
        return [(0.0 if self.wanted in (None, text) else -100.0, 0) for text in texts]


def test_a_language_model_decides_where_the_decoder_wavers(decoder: WhisperDecoder, whisper: Tokenizer) -> None:
    changed = 0
    for writing in ended(decoder):
        alike, text = Prefers(), whisper.decode(writing.tokens)
        kept = reconsidered(writing, decoder, whisper, alike)
        assert sum(kept.sure) >= sum(writing.sure) - 1e-4  # to a model that finds all alike, the decoder is right
        if alike.asked:
            assert alike.asked[0] == text and len(set(alike.asked)) == len(alike.asked) <= 1 + rescoring.ALTERNATIVES
            chosen = reconsidered(writing, decoder, whisper, Prefers(alike.asked[-1]))
            assert whisper.decode(chosen.tokens) == alike.asked[-1] != text and chosen.ended
            assert len(chosen.tokens) >= len(writing.tokens) - rescoring.MISSING_WORDS
            changed += 1
    assert changed


def test_a_sure_transcript_and_a_long_one_are_left_to_the_decoder(
    decoder: WhisperDecoder, whisper: Tokenizer, monkeypatch
) -> None:
    def never(texts):
        raise AssertionError("nothing was to be asked")

    writing = ended(decoder)[0]
    sure = replace(writing, rivals=[(token, -50.0) for token, _ in writing.rivals], sure=[-0.01] * len(writing.sure))
    assert wavering(sure) == [] and reconsidered(sure, decoder, whisper, never) is sure
    monkeypatch.setattr(rescoring, "MAX_TOKENS", len(writing.tokens) - 1)
    assert reconsidered(writing, decoder, whisper, never) is writing
