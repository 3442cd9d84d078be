"""The ASR judge: batching, endings and cut windows on a tiny random Whisper; what it understands, on the real one."""

import pytest
import torch

from antiphon.audio.io import Audio
from antiphon.errors import EvalError
from antiphon.evals.asr_judge import END, START, AsrJudge, batches
from antiphon.evals.metrics.text import loops, normalize, word_error_rate


class Pieces:
    """Stands for a tokenizer: shows the ids."""

    def decode(self, ids):
        return " ".join(map(str, ids))


@pytest.fixture(scope="module")
def judge():
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    torch.manual_seed(0)
    layers = {"encoder_layers": 1, "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    sizes = {"d_model": 16, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "max_target_positions": 64}
    config = WhisperConfig(vocab_size=51865, init_std=0.3, **layers, **sizes)
    return AsrJudge(WhisperForConditionalGeneration(config), Pieces())


def sound(seconds, seed, rate=16000):
    return Audio(0.1 * torch.randn(int(seconds * rate), generator=torch.Generator().manual_seed(seed)), rate)


def test_clips_of_one_padded_length_go_together():
    seconds = [1.0, 5.0, 1.5, 2.0, 2.1, 29.0]
    grouped = batches([int(16000 * s) for s in seconds], min_padding=1.0, batch=2)
    # padded to 2, 6, 4, 4, 4 and 30 s (the window's end)
    assert [(samples / 16000, rows) for samples, rows in grouped] == [
        (2.0, [0]),
        (4.0, [2, 3]),
        (4.0, [4]),
        (6.0, [1]),
        (30.0, [5]),
    ]


def test_encoder_equals_transformers_on_the_full_window(judge):
    mel = torch.randn(2, 80, 3000, generator=torch.Generator().manual_seed(1))
    whole = judge.model.model.encoder(mel).last_hidden_state
    torch.testing.assert_close(judge.encode(mel), whole, atol=1e-5, rtol=1e-5)


def greedy_slowly(judge, mel, max_tokens):
    """One clip, no cache, all tokens again at each step."""
    memory, out = judge.encode(mel), []
    while len(out) < max_tokens:
        ids = torch.tensor([[*START, *out]])
        logits = judge.model.proj_out(
            judge.model.model.decoder(input_ids=ids, encoder_hidden_states=memory).last_hidden_state[0, -1]
        )
        logits[judge.banned] = -torch.inf
        if not out:
            logits[[220, END]] = -torch.inf
        token = int(logits.argmax())
        if token == END:
            return out
        out.append(token)
    return out


@torch.inference_mode()
def test_batched_transcripts_equal_slow_ones_and_end_each_at_their_own_time(judge):
    # A large random row for the end token: it wins at some steps of some clips, so that they end at different times.
    waves = [sound(0.5, seed).samples for seed in range(6)]
    weight = judge.model.proj_out.weight
    old = weight[END].clone()
    try:
        lengths = []
        for seed in range(8):
            weight[END] = 6 * 0.3 * torch.randn(16, generator=torch.Generator().manual_seed(seed))
            batch = judge._hear(waves, 16000, 12)
            for wave, (text, finished) in zip(waves, batch, strict=True):
                mel = judge.features(
                    [wave.numpy()], sampling_rate=16000, padding="max_length", max_length=16000, return_tensors="pt"
                ).input_features
                slow = greedy_slowly(judge, mel, 12)
                assert text == " ".join(map(str, slow))
                assert finished == (len(slow) < 12)
                lengths.append(len(slow))
    finally:
        weight[END] = old
    assert len(set(lengths)) > 1  # the case of rows leaving the batch did happen


def test_no_special_token_is_ever_written(judge):
    texts = judge.transcribe([sound(0.5, 3), sound(1.0, 4, rate=24000)], max_tokens=8)
    tokens = [int(t) for text in texts for t in text.split()]
    assert tokens and max(tokens) < END
    assert not judge.banned[END] and judge.banned[START[0]]


def test_order_and_progress(judge):
    clips = [sound(s, i) for i, s in enumerate((1.5, 0.5, 1.0, 3.0))]
    done = []
    together = judge.transcribe(clips, batch=2, min_padding=1.0, max_tokens=4, progress=done.append)
    alone = [judge.transcribe([clip], min_padding=1.0, max_tokens=4)[0] for clip in clips]
    assert together == alone and sum(done) == 4


def test_what_is_unfinished_is_heard_again_to_whispers_own_limit(judge):
    for seconds in (0.5, 29.0):  # padded by some seconds; in the full window from the start
        clip = sound(seconds, 3)
        (text,) = judge.transcribe([clip], max_tokens=4)
        assert text == judge._hear([clip.samples], 30 * 16000, judge.max_tokens)[0][0] and len(text.split()) > 4
    assert judge.max_tokens == 60  # of a decoder with 64 places


def test_too_long_and_empty(judge):
    with pytest.raises(EvalError, match="30 s"):
        judge.transcribe([sound(30.5, 0)])
    assert len(judge.transcribe([Audio(torch.zeros(0), 16000)], max_tokens=2)) == 1


def test_a_folder_without_whisper_is_told_so(tmp_path):
    with pytest.raises(EvalError, match=tmp_path.name):
        AsrJudge.from_pretrained(tmp_path)


@pytest.mark.slow
def test_real_whisper_hears_the_teacher():
    from antiphon.data.speech.voices.base import HibariVoice

    judge, voice = AsrJudge.from_pretrained(), HibariVoice()
    texts = [
        "The capital of France is Paris.",
        "A spider has eight legs.",
        "Please remind me to buy two bottles of milk on my way home this evening.",
        "Water boils at one hundred degrees.",
    ]
    clips = [Audio(torch.from_numpy(voice.speak(text).samples), voice.sample_rate) for text in texts]
    cut = judge.transcribe(clips)
    assert word_error_rate(texts, cut) <= 0.05
    assert [normalize(t) for t in cut] == [normalize(t) for t in judge.transcribe(clips, min_padding=30.0)]


class Letters(Pieces):
    """Spells: each letter is a token."""

    def encode(self, text, add_special_tokens):
        from types import SimpleNamespace

        return SimpleNamespace(ids=[100 + ord(letter) for letter in text])


@torch.inference_mode()
def test_comparing_tells_what_a_text_costs_on_hearing_a_clip(judge):
    clips, texts = [sound(0.5, 1), sound(0.7, 2), sound(3.0, 3)], ["ab", "a longer one", "c"]
    letters = AsrJudge(judge.model, Letters())
    found = letters.compare(clips, texts, batch=2)
    for clip, text, (heard, nats) in zip(clips, texts, found):
        (samples, _), *_ = batches([len(clip.samples)], 2.0, 1)
        memory = letters._memory([clip.samples], samples)
        wanted, finished = letters._hear([clip.samples], samples, judge.max_tokens)[0]
        if not finished or loops(wanted):  # as `transcribe` does
            wanted = letters._hear([clip.samples], 30 * 16000, judge.max_tokens)[0][0]
        assert heard == wanted
        ids = [*letters.tokenizer.encode(" " + text, False).ids, END]
        decoded = letters.model.model.decoder(
            input_ids=torch.tensor([[*START, *ids]]), encoder_hidden_states=memory
        ).last_hidden_state
        logs = torch.log_softmax(letters.model.proj_out(decoded[0, len(START) - 1 : -1]), -1)
        slow = -logs.gather(1, torch.tensor(ids)[:, None]).mean()
        assert nats == pytest.approx(float(slow), abs=1e-3)


def test_a_language_is_told_by_its_token(judge, monkeypatch):
    monkeypatch.setattr(judge.tokenizer, "token_to_id", {"<|ru|>": 50263}.get, raising=False)
    started = []
    monkeypatch.setattr(judge, "_hear", lambda waves, size, most, start: started.append(start) or [("a", True)])
    assert judge.transcribe([sound(1.0, 0)]) == judge.transcribe([sound(1.0, 0)], language="ru") == ["a"]
    assert started == [START, (START[0], 50263, *START[2:])]
    with pytest.raises(EvalError, match="'xx'"):
        judge.transcribe([sound(1.0, 0)], language="xx")
