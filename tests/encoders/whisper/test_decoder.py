"""Whisper's decoder: transformers' numbers, and a draft that changes the work but never the result."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from antiphon.encoders.whisper.decoder import DecoderConfig, WhisperDecoder, realign
from antiphon.errors import ModelError

SMALL = DecoderConfig(
    width=16, layers=2, heads=2, inner=32, vocabulary=40, positions=64, start=(31, 32), end=30, no_speech=35,
    suppress=(3, 4), suppress_first=(30,),
)  # fmt: skip


def tiny(seed: int = 0) -> WhisperDecoder:
    torch.manual_seed(seed)
    decoder = WhisperDecoder(SMALL).eval()
    for parameter in decoder.parameters():
        parameter.data.normal_(0, 0.3)
    return decoder


@torch.no_grad()
def test_it_is_transformers_decoder(tmp_path: Path) -> None:
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    torch.manual_seed(0)
    config = WhisperConfig(
        vocab_size=40, num_mel_bins=8, d_model=16, encoder_layers=1, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=24, decoder_ffn_dim=24, max_source_positions=12,
        max_target_positions=16, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip
    theirs = WhisperForConditionalGeneration(config).eval()
    for parameter in theirs.model.decoder.parameters():
        parameter.data.normal_(0, 0.2)
    weights = {name: value.contiguous() for name, value in theirs.state_dict().items() if name != "proj_out.weight"}
    save_file(weights, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    ours = WhisperDecoder.from_pretrained(tmp_path)
    features, tokens = torch.randn(2, 12, 16), torch.randint(0, 40, (2, 9))
    expected = theirs(encoder_outputs=(features,), decoder_input_ids=tokens).logits
    sound = ours.listen(features)
    assert torch.allclose(ours(tokens, sound)[0], expected, atol=1e-4)
    first, past = ours(tokens[:, :4], sound)
    second, _ = ours(tokens[:, 4:], sound, past)
    assert torch.allclose(torch.cat([first, second], 1), expected, atol=1e-4)


@pytest.mark.parametrize("seed", range(6))
def test_any_draft_gives_the_greedy_transcript(seed: int) -> None:
    decoder, draw = tiny(seed), random.Random(seed)
    sound = decoder.listen(torch.randn(1, 10, 16))
    greedy = decoder.transcribe(sound, [], max_tokens=20)
    assert not {3, 4, 31, 39} & set(greedy.tokens)
    wrong = list(greedy.tokens)
    for _ in range(3):
        wrong[draw.randrange(len(wrong))] = draw.randrange(30)
    drafts = [greedy.tokens, wrong, greedy.tokens[1:], [7, *greedy.tokens], [draw.randrange(30) for _ in range(30)]]
    for draft in drafts:
        for look in (1, 3, 12):
            checked = decoder.transcribe(sound, draft, max_tokens=20, look=look)
            assert checked.tokens == greedy.tokens
            assert checked.confidence == pytest.approx(greedy.confidence, abs=1e-3)
            assert checked.no_speech == pytest.approx(greedy.no_speech, abs=1e-5)
    right = decoder.transcribe(sound, greedy.tokens, max_tokens=20)
    assert right.passes <= -(-len(greedy.tokens) // 12) + 1 < greedy.passes


def test_several_at_once_are_as_each_alone() -> None:
    decoder = tiny(1)
    sounds = [decoder.listen(torch.randn(1, 10, 16)) for _ in range(5)]
    limits = [20, 3, 20, 9, 20]
    writings = [decoder.begin(sound, [], limit) for sound, limit in zip(sounds, limits)]
    decoder.advance_together(writings)
    together = [one.transcript() for one in writings]
    for sound, limit, made in zip(sounds, limits, together):
        alone = decoder.transcribe(sound, [], limit)
        assert (made.tokens, made.ended, made.passes) == (alone.tokens, alone.ended, alone.passes)
        assert made.confidence == pytest.approx(alone.confidence, abs=1e-4)
        assert made.no_speech == pytest.approx(alone.no_speech, abs=1e-5)
    assert len({tuple(made.tokens) for made in together}) > 1


@torch.no_grad()
def test_packed_weights_give_the_same_transcript() -> None:
    decoder = tiny(2)
    decoder.load_state_dict({name: value.half().float() for name, value in decoder.state_dict().items()})
    sound, tokens = decoder.listen(torch.randn(1, 10, 16)), torch.randint(0, 30, (2, 3))
    plain, before = (
        decoder(tokens, [(k.repeat(2, 1, 1, 1), v.repeat(2, 1, 1, 1)) for k, v in sound])[0],
        decoder.transcribe(sound, []),
    )
    decoder.pack()
    packed = decoder(tokens, [(k.repeat(2, 1, 1, 1), v.repeat(2, 1, 1, 1)) for k, v in sound])[0]
    assert torch.allclose(packed, plain, atol=1e-4)
    assert decoder.transcribe(sound, []).tokens == before.tokens


def test_realign() -> None:
    assert realign([7, 8, 9], 8) == [9]  # 7 was too much
    assert realign([7, 8, 9], 5) == [8, 9]  # 5 instead of 7
    assert realign([1, 2, 3, 4, 5, 6], 6) == [2, 3, 4, 5, 6]  # too far to be the same word
    assert realign([], 5) == []


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds no Whisper decoder"):
        WhisperDecoder.from_pretrained(tmp_path)


def test_the_first_pass_tells_the_languages_as_detection_does() -> None:
    decoder = tiny(3)
    decoder.config = replace(SMALL, languages=(32, 33, 34))
    sounds = [decoder.listen(torch.randn(1, 10, 16)) for _ in range(3)]
    likely = decoder.languages(sounds)
    assert likely.shape == (3, 3) and torch.allclose(likely.sum(1), torch.ones(3))
    alone, together = [decoder.begin(sound, []) for sound in sounds], [decoder.begin(sound, []) for sound in sounds]
    decoder.advance_together(together)
    for one, other, expected in zip(alone, together, likely):
        decoder.advance(one)
        assert torch.allclose(one.languages, expected, atol=1e-5)
        assert torch.allclose(other.languages, expected, atol=1e-5)


def test_english_has_no_foreign_tokens() -> None:
    decoder = tiny(4)
    sound = decoder.listen(torch.randn(1, 10, 16))

    def written(**how: object) -> list[int]:
        writing = decoder.begin(sound, [], 20, **how)
        while not writing.over:
            decoder.advance(writing)
        return writing.tokens

    free = written(english=False)
    assert written() == free
    decoder.banned_in_english[free[0]] = True
    assert free[0] not in written() and written(english=False) == free


@torch.no_grad()
def test_reading_a_transcript_over_is_what_was_thought_while_it_was_written() -> None:
    decoder = tiny(5)
    decoder.config = replace(SMALL, alignment_heads=((0, 1), (1, 0), (1, 1)))
    sound = decoder.listen(torch.randn(1, 12, 16))
    writing = decoder.begin(sound, [], 9)
    while not writing.over:
        decoder.advance(writing)
    reading = decoder.read(writing.tokens, sound, slice(2, 10))
    assert reading.attention.shape == (3, len(writing.tokens) + 1, 8)
    assert reading.hidden.shape == (len(writing.tokens) + 1, 16)
    assert torch.allclose(reading.attention.sum(-1), torch.ones(3, len(writing.tokens) + 1), atol=1e-5)
    logits = decoder(torch.tensor([[*SMALL.start, *writing.tokens]]), sound)[0][0, 1:]
    assert torch.allclose(decoder.logits(reading.hidden[None])[0], logits, atol=1e-5)
    expected = logits.log_softmax(-1)[torch.arange(len(writing.tokens) + 1), torch.tensor([*writing.tokens, SMALL.end])]
    assert torch.allclose(reading.sure, expected, atol=1e-5)
    # The head's own arithmetic: softmax of queries times keys, over all frames and then those that were asked for.
    looks: list[torch.Tensor] = []
    decoder.hidden(torch.tensor([[*SMALL.start, *writing.tokens]]), sound, looks=looks)
    whole = looks[1][0, 0, 1:, 2:10]
    assert torch.allclose(reading.attention[1], whole / whole.sum(-1, keepdim=True), atol=1e-5)
