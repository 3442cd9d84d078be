"""What every family does alike, one suite for all: shapes, streams, rows that come and go, files, and what is refused.

Also run on a codec that somebody else brings, in one file and a line in their package's metadata.
"""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from antiphon import codecs
from antiphon.codecs.base import Codec, StreamingCodec, Tokenizer
from antiphon.codecs.dac import Dac
from antiphon.codecs.encodec.model import ChunkedEncodec, Encodec
from antiphon.codecs.families import codec_class, short_names
from antiphon.codecs.semantic.kmeans import SemanticTokenizer
from antiphon.codecs.speechtokenizer import SpeechTokenizer, SpeechTokenizerConfig
from antiphon.errors import HubError, ModelError
from antiphon.nn.state import fork, join, select, tensors
from antiphon.train.codec.task import TrainableCodec
from tests.codecs.encodec.test_model import TINY as TINY_ENCODEC
from tests.codecs.mimi.test_model import make_codec as make_mimi
from tests.codecs.mini.test_model import make_codec as make_mini
from tests.codecs.simple import follow_a_schedule
from tests.codecs.test_dac import TINY as TINY_DAC

TINY_SPEECHTOKENIZER = SpeechTokenizerConfig(
    sample_rate=800, latent=8, semantic=5, filters=4, ratios=(4, 2), codebooks=3, codebook_size=16
)
STEREO = replace(TINY_ENCODEC, channels=2, causal=False, norm="time_group_norm", chunk_seconds=0.5)


def make_toy():
    toy = codec_class("toy")
    return toy(toy.config_class()).eval()


LIVE = {
    "mimi": make_mimi,
    "mimi without padding": lambda: make_mimi(pad_audio=False),
    "mini": make_mini,
    "encodec": lambda: Encodec(replace(TINY_ENCODEC)).eval(),
    "encodec with zeros": lambda: Encodec(replace(TINY_ENCODEC, padding="constant")).eval(),
    "deeper encodec": lambda: Encodec(replace(TINY_ENCODEC, residual_layers=2, ratios=(5, 3), lstm=1)).eval(),
    "toy": make_toy,
}
ALL = {
    **LIVE,
    "stereo": lambda: ChunkedEncodec(replace(STEREO)).eval(),
    "dac": lambda: Dac(replace(TINY_DAC)).eval(),
    "speechtokenizer": lambda: SpeechTokenizer(replace(TINY_SPEECHTOKENIZER)).eval(),
}
KINDS = ["mimi", "mini", "encodec", "toy", "stereo", "dac", "speechtokenizer"]


@pytest.fixture(scope="module", autouse=True)
def installed(tmp_path_factory):
    """The toy codec as an installed package: a file, and metadata that name its family."""
    place = tmp_path_factory.mktemp("site-packages")
    shutil.copy(Path(__file__).with_name("toy_codec.py"), place)
    about = place / "toy_codec-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-codec\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[antiphon.codecs]\ntoy = toy_codec:FAMILY\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(place)
        yield


def made(name):
    torch.manual_seed(0)
    return ALL[name]()


class Averages(torch.nn.Module):
    """Features of speech that cost nothing: averages of ten samples."""

    sample_rate, frame_rate, width = 100, 10.0, 1

    def forward(self, samples, lengths=None):
        frames = torch.full((len(samples),), samples.shape[1] // 10)
        return samples[:, : samples.shape[1] // 10 * 10].unflatten(1, (-1, 10)).mean(-1, keepdim=True), frames


def test_a_tokenizer_only_encodes():
    tokenizer = SemanticTokenizer(Averages(), torch.linspace(-1, 1, 5)[:, None], "nobody", None)
    assert isinstance(tokenizer, Tokenizer) and not isinstance(tokenizer, Codec)
    codes = tokenizer.encode(torch.randn(2, 1, 95))
    assert codes.shape == (2, 1, 9) and codes.dtype == torch.int64 and codes.max() < tokenizer.codebook_size
    for wrong in (torch.zeros(2, 2, 95), torch.zeros(2, 95)):
        with pytest.raises(ValueError, match=r"\[batch, 1, samples\]"):
            tokenizer.encode(wrong)
    with pytest.raises(ValueError, match="codebooks is 2"):
        tokenizer.encode(torch.zeros(1, 1, 95), 2)


@pytest.mark.parametrize("name", ALL)
def test_shapes_and_numbers(name):
    codec = made(name)
    assert isinstance(codec, Codec) and isinstance(codec, StreamingCodec) == (name in LIVE)
    audio = torch.randn(2, codec.channels, 1001)
    codes = codec.encode(audio)
    assert codes.dtype == torch.int64 and codes.min() >= 0 and codes.max() < codec.codebook_size
    assert codes.shape[:2] == (2, codec.codebooks)
    assert abs(codes.shape[-1] - codec.frame_rate * 1001 / codec.sample_rate) <= 2
    for count in range(codec.min_codebooks, codec.codebooks + 1):
        assert torch.equal(codec.encode(audio, count), codes[:, :count])
        sound = codec.decode(codes[:, :count])
        assert sound.shape[:2] == (2, codec.channels) and sound.dtype == torch.float32 and sound.isfinite().all()
        assert abs(sound.shape[-1] - 1001) <= 2 * codec.sample_rate / codec.frame_rate
    for count in (0, codec.codebooks + 1):
        with pytest.raises(ValueError, match=f"{count} codebooks were asked for"):
            codec.encode(audio, count)
    nothing = codec.encode(audio[..., :0], codec.codebooks)
    assert nothing.shape == (2, codec.codebooks, 0) and codec.decode(nothing).shape == (2, codec.channels, 0)
    vectors = codec.codebook_vectors()
    assert len(vectors) == codec.codebooks and {len(each) for each in vectors} == {codec.codebook_size}
    assert len({each.shape for each in vectors}) == 1


@pytest.mark.parametrize("name", LIVE)
@pytest.mark.parametrize("trial", range(30))
def test_any_split_gives_what_the_whole_gives(name, trial):
    codec, draw = made(name), torch.Generator().manual_seed(trial)
    hop = codec.config.samples_per_frame
    length = int(torch.randint(0, (1, 4, 12, 30)[trial % 4] * hop, (), generator=draw))
    levels = codec.min_codebooks + trial % (codec.codebooks - codec.min_codebooks + 1)
    audio, state = torch.randn(2, 1, length, generator=draw), codec.init_state(2)
    at, found, heard = 0, [], []
    while at < length:
        size = min(length - at, int(torch.randint(0, (3, hop, 4 * hop, 20 * hop)[trial % 4], (), generator=draw)))
        at += size
        last = at == length and trial % 2 == 0
        found.append(codec.encode_step(audio[..., at - size : at], state, last, levels))
        heard.append(codec.decode_step(found[-1], state, last))
    if trial % 2 or not length:
        found.append(codec.encode_step(audio[..., :0], state, True, levels))
        heard.append(codec.decode_step(found[-1], state, True))
    codes = codec.encode(audio, levels)
    assert torch.equal(torch.cat(found, -1), codes)
    sound, whole = torch.cat(heard, -1), codec.decode(codes)
    if length:
        assert sound.shape[-1] == codec.delay + whole.shape[-1]
        torch.testing.assert_close(sound[..., codec.delay :], whole, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", LIVE)
@pytest.mark.parametrize("seed", range(3))
def test_any_schedule(name, seed):
    follow_a_schedule(made(name), seed)


@pytest.mark.parametrize("name", LIVE)
def test_a_snapshot_can_be_gone_back_to_and_the_state_never_grows(name):
    codec = made(name)
    hop, state = codec.config.samples_per_frame, codec.init_state(1)
    audio = torch.randn(1, 1, 30 * hop)
    codec.decode_step(codec.encode_step(audio[..., : 14 * hop + 5], state), state)
    kept, size = fork(state), sum(tensor.numel() for tensor in tensors(state))
    first = codec.encode_step(audio[..., 14 * hop + 5 :], state)
    sound = codec.decode_step(first, state)
    again = codec.encode_step(audio[..., 14 * hop + 5 :], kept)
    assert torch.equal(first, again) and torch.equal(codec.decode_step(again, kept), sound)
    codec.decode_step(codec.encode_step(audio[..., : 20 * hop + 5], state), state)
    assert sum(tensor.numel() for tensor in tensors(state)) == size


@pytest.mark.parametrize("name", KINDS)
def test_saved_and_loaded_it_is_the_same(name, tmp_path):
    codec = made(name)
    weights = codec.state_dict()  # what float16 can hold: the mini codec is saved in it
    codec.load_state_dict({k: v.half().float() if v.is_floating_point() else v for k, v in weights.items()})
    audio = torch.randn(2, codec.channels, 500)
    codec.save_pretrained(tmp_path)
    again = codecs.load(tmp_path)
    assert type(again) is type(codec) and again.config == codec.config and not again.training
    assert torch.equal(again.encode(audio), codec.encode(audio))
    torch.testing.assert_close(again.decode(again.encode(audio)), codec.decode(codec.encode(audio)))


def test_a_family_of_somebody_else_has_a_name_trains_and_is_loaded_by_its_path(tmp_path):
    assert short_names()["toy-8"] == "somebody/toy-8" and isinstance(made("toy"), TrainableCodec)
    made("toy").save_pretrained(tmp_path)
    changed_config(tmp_path, family="toy_codec:Toy")
    assert type(codecs.load(tmp_path)) is codec_class("toy") is codec_class("toy_codec:Toy")
    for said, complaint in (
        ("toy_codec:Nothing", "no Nothing"), ("nowhere:Toy", "'nowhere'"), ("toy_codec:FAMILY", "no class"),
        ("toy_codec:ToyConfig", "lacks encode"),
    ):  # fmt: skip
        changed_config(tmp_path, family=said)
        with pytest.raises(ModelError, match=complaint):
            codecs.load(tmp_path)
    with pytest.raises(ModelError, match="no family of codecs.*mimi.*toy"):
        codec_class("tye")


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
    with pytest.raises(ValueError, match=rf"\[batch, {codec.channels}, samples\]"):
        codec.encode(torch.zeros(1, 3, 100))


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
    with pytest.raises(ValueError, match=r"state.encoder.*: rows of \[(1, )?3.* and \[(1, )?5"):
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
    made(name).save_pretrained(tmp_path)
    with torch.inference_mode():
        codec = codecs.load(tmp_path)
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
        folder, lambda w: w.update({f"{next(key for key in w if key.endswith('.codes'))}x": torch.zeros(3)})
    ),
    "another shape": lambda folder: changed_weights(folder, lambda w: w.update({sorted(w)[-1]: torch.zeros(3, 7)})),
}


@pytest.mark.parametrize("name", KINDS)
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
