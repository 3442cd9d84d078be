"""What every family does alike: what makes no sense is refused in words, and nothing gives nothing."""
import json
import re
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from antiphon import codecs
from antiphon.codecs.base import StreamingCodec
from antiphon.codecs.dac import Dac
from antiphon.codecs.encodec.model import ChunkedEncodec, Encodec
from antiphon.codecs.mimi.model import Mimi
from antiphon.codecs.mini.model import MiniCodec
from antiphon.codecs.speechtokenizer import SpeechTokenizer
from antiphon.errors import HubError
from antiphon.nn.state import join, select
from tests.codecs.encodec.test_model import TINY as TINY_ENCODEC
from tests.codecs.mimi.test_model import TINY as TINY_MIMI
from tests.codecs.mini.test_model import TINY as TINY_MINI
from tests.codecs.test_dac import TINY as TINY_DAC
from tests.parity.test_speechtokenizer import TINY as TINY_SPEECHTOKENIZER

STEREO = replace(TINY_ENCODEC, channels=2, causal=False, norm="time_group_norm", chunk_seconds=0.5)
LIVE = {"mimi": (Mimi, TINY_MIMI), "mini": (MiniCodec, TINY_MINI), "encodec": (Encodec, TINY_ENCODEC)}
ALL = {
    **LIVE,
    "stereo": (ChunkedEncodec, STEREO),
    "dac": (Dac, TINY_DAC),
    "speechtokenizer": (SpeechTokenizer, TINY_SPEECHTOKENIZER),
}


def made(name):
    torch.manual_seed(0)
    kind, config = ALL[name]
    return kind(replace(config)).eval()


@pytest.mark.parametrize("name", ALL)
def test_codes_and_audio_that_make_no_sense_are_refused(name):
    codec = made(name)
    audio = torch.randn(2, codec.channels, 500)
    codes = codec.encode(audio)
    calls = [codec.decode]
    if isinstance(codec, StreamingCodec):
        calls.append(lambda codes: codec.decode_step(codes, codec.init_state(2)))
    for decode in calls:
        for wrong in (codes[0], codes[:, :0], torch.cat([codes, codes], 1)):
            with pytest.raises(ValueError, match=rf"\[batch, 1 to {codec.codebooks} codebooks, frames\], got"):
                decode(wrong)
        for code in (codec.codebook_size, -2):
            with pytest.raises(ValueError, match=f"codes must be 0 to {codec.codebook_size - 1}, got {code} to {code}"):
                decode(torch.full_like(codes, code))
        with pytest.raises(ValueError, match="int64, got torch.float32"):
            decode(codes.float())
        torch.testing.assert_close(decode(codes.int()), decode(codes))
    with pytest.raises(ValueError, match="torch.int16: divide"):
        codec.encode((1000 * audio).short())


@pytest.mark.parametrize("name", LIVE)
def test_a_state_of_other_rows_is_refused(name):
    codec = made(name)
    audio = torch.randn(1, 1, 400)
    with pytest.raises(ValueError, match="1 streams.*state of 2"):
        codec.encode_step(audio, codec.init_state(2))
    with pytest.raises(ValueError, match="1 streams.*state of 2"):
        codec.decode_step(codec.encode(audio), codec.init_state(2))
    one, other = codec.init_state(1), codec.init_state(1)
    codec.encode_step(audio[..., :3], one)
    codec.encode_step(audio[..., :5], other)
    with pytest.raises(ValueError, match=r"state.encoder.*pending: rows of \[3.* and \[5"):
        join([one, other])


@pytest.mark.parametrize("name", LIVE)
def test_a_batch_whose_rows_have_all_left(name):
    codec = made(name)
    audio = torch.randn(2, 1, 401)
    state = codec.init_state(2)
    codes = codec.encode_step(audio, state)
    state = select(state, [])
    for last in (False, True):
        found = codec.encode_step(audio[:0], state, last)
        assert found.shape[:2] == (0, codec.codebooks) and found.dtype == torch.int64
        assert codec.decode_step(codes[:0], state, last).shape[:2] == (0, 1)
    state = join([select(codec.init_state(2), []), codec.init_state(1)])
    assert torch.equal(codec.encode_step(audio[:1], state, True), codec.encode(audio[:1]))


@pytest.mark.parametrize("name", LIVE)
def test_nothing_comes_after_the_end(name):
    codec = made(name)
    state, audio = codec.init_state(2), torch.randn(2, 1, 401)
    codes = codec.encode_step(audio, state, last=True)
    assert codec.decode_step(codes, state, last=True).shape[-1] == codec.delay + codec.decode(codes).shape[-1]
    for last in (True, False):
        again = codec.encode_step(audio[..., :0], state, last)
        assert again.shape == (2, codec.codebooks, 0)
        assert codec.decode_step(again, state, last).shape == (2, 1, 0)


@pytest.mark.parametrize("name", LIVE)
def test_a_stream_may_begin_in_inference_mode(name, tmp_path):
    kind, _ = LIVE[name]
    made(name).save_pretrained(tmp_path)
    with torch.inference_mode():
        codec = kind.from_pretrained(tmp_path)
        audio = torch.randn(1, 1, 1000)
        codes = codec.encode(audio)
        state = codec.init_state(1)
        parts = [codec.encode_step(audio[..., :30], state)]
        sound = [codec.decode_step(parts[-1], state)]
    for begin, end in ((30, 200), (200, 1000)):
        parts.append(codec.encode_step(audio[..., begin:end], state, end == 1000))
        sound.append(codec.decode_step(parts[-1], state, end == 1000))
    assert torch.equal(torch.cat(parts, -1), codes)
    heard = torch.cat(sound, -1)[..., codec.delay :]
    torch.testing.assert_close(heard, codec.decode(codes), atol=1e-5, rtol=1e-4)


def changed_config(folder, **fields) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **fields}))


def changed_weights(folder, change) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


def cut(path) -> None:
    path.write_bytes(path.read_bytes()[:300])


DAMAGE = {
    "a field that isn't known": lambda folder: changed_config(folder, colour=3),
    "no codebooks": lambda folder: changed_config(folder, codebooks=0),
    "a field of another type": lambda folder: changed_config(folder, codebook_size="many"),
    "a half-written config": lambda folder: (folder / "config.json").write_text("{"),
    "no weights": lambda folder: (folder / "model.safetensors").unlink(),
    "half of the weights": lambda folder: cut(folder / "model.safetensors"),
    "a weight too many": lambda folder: changed_weights(folder, lambda w: w.update(zzz=torch.zeros(3))),
    "a weight too few": lambda folder: changed_weights(folder, lambda w: w.pop(sorted(w)[0])),
    "a misspelt code": lambda folder: changed_weights(
        folder, lambda w: w.update({f"{[key for key in w if key.endswith('.codes')][0]}x": torch.zeros(3)})
    ),
    "another shape": lambda folder: changed_weights(folder, lambda w: w.update({sorted(w)[-1]: torch.zeros(3, 7)})),
}


@pytest.mark.parametrize("name", ALL)
def test_damaged_folders_are_refused_with_their_name(name, tmp_path):
    for number, (damage, harm) in enumerate(DAMAGE.items()):
        folder = tmp_path / str(number)
        made(name).save_pretrained(folder)
        codecs.load(folder)
        harm(folder)
        with pytest.raises(HubError, match=re.escape(str(folder))):
            pytest.fail(f"{damage}: {type(codecs.load(folder)).__name__}")


@pytest.mark.parametrize("name", ["mimi", "encodec", "speechtokenizer"])
def test_no_codebooks_cannot_be_loaded(name, tmp_path):
    codec = made(name)
    codec.save_pretrained(tmp_path)
    for count in (0, -1):
        with pytest.raises(ValueError, match=f"{count} codebooks can't be kept"):
            type(codec).from_pretrained(tmp_path, codebooks=count)
    assert type(codec).from_pretrained(tmp_path, codebooks=99).codebooks == codec.codebooks
