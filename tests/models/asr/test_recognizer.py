"""The ears: the same words whether the sound comes whole or in pieces, and none where nothing was said."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from antiphon.audio.io import Audio, load
from antiphon.encoders.whisper.decoder import DecoderConfig, WhisperDecoder
from antiphon.encoders.whisper.encoder import EncoderConfig, WhisperBlockEncoder
from antiphon.errors import ModelError
from antiphon.models.asr.adapter import Adapter, AdapterConfig, Spelling
from antiphon.models.asr.recognizer import Recognizer
from tests.conftest import ROOT


@pytest.fixture(autouse=True)
def _believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A random decoder is unsure of whatever it writes."""
    monkeypatch.setattr("antiphon.models.asr.recognizer.was_nothing", lambda *_: False)


def words(count: int) -> Tokenizer:
    made = Tokenizer(models.WordLevel({f"w{i}": i for i in range(count)}, unk_token="w0"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.decoder = decoders.Fuse()
    return made


def letters() -> Tokenizer:
    vocabulary = {letter: i for i, letter in enumerate(pre_tokenizers.ByteLevel.alphabet())}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return made


def tiny(decoder: bool = True, adapter: bool = True, seed: int = 3) -> Recognizer:
    torch.manual_seed(seed)
    encoder = WhisperBlockEncoder(EncoderConfig(width=16, layers=2, heads=2, inner=24, positions=60, block=15, right=4))
    tokenizer = letters()
    ids = [tokenizer.token_to_id(letter) for letter in "abcdefgh"]
    ctc = Adapter(AdapterConfig(features=16, width=16, blocks=1, kernel=3, inner=16, embedding=12, pieces=8, merges=0))
    ctc.set_embeddings(torch.randn(8, 12))
    whisper = DecoderConfig(
        width=16,
        layers=2,
        heads=2,
        inner=32,
        vocabulary=40,
        positions=64,
        start=(31, 32),
        end=30,
        no_speech=35,
        suppress_first=(30,),
    )
    writer = WhisperDecoder(whisper)
    for part in (encoder, ctc, writer):
        for name, parameter in part.named_parameters():
            if "norm" not in name and "scale" not in name:
                parameter.data.normal_(0, 0.3)
    return Recognizer(
        encoder,
        ctc if adapter else None,
        Spelling(tokenizer.to_str(), 0, ids) if adapter else None,
        writer if decoder else None,
        words(40) if decoder else None,
    ).eval()


def sound(seconds: float, seed: int = 0) -> torch.Tensor:
    """Real speech, over and over, with a little noise: the detector has to find it."""
    speech = load(ROOT / "examples" / "question.wav", sample_rate=16000).mono().samples
    speech = speech[4000 : 4000 + 16000]
    generator = torch.Generator().manual_seed(seed)
    size = int(16000 * seconds)
    return speech.repeat(-(-size // len(speech)))[:size] + 0.002 * torch.randn(size, generator=generator)


@pytest.mark.parametrize("decoder", [False, True])
@pytest.mark.parametrize("seconds", [0.3, 1.0, 3.1])  # 3.1 s is more than two windows of 60 frames
def test_pieces_are_heard_as_the_whole(decoder: bool, seconds: float) -> None:
    ears, signal = tiny(decoder), sound(seconds)
    whole = ears.hear(Audio(signal, 16000))
    assert whole.text and whole.drafted
    for seed in range(3):
        draw, state, at = random.Random(seed), ears.init_state(), 0
        while at < len(signal):
            size = draw.randint(0, 5000)
            ears.step(signal[at : at + size], state, ahead=bool(seed))
            at += size
        heard = ears.finish(state)
        assert (heard.text, heard.drafted) == (whole.text, whole.drafted)


def test_one_part_alone_hears_too() -> None:
    alone = tiny(decoder=False).hear(Audio(sound(1.0), 16000))
    assert alone.text == alone.drafted != ""
    ears, signal = tiny(adapter=False), sound(3.1)
    heard = ears.hear(Audio(signal, 16000))
    assert heard.text and heard.drafted == "" and heard.embeddings is None
    state = ears.init_state()
    for piece in signal.split(1280):
        ears.step(piece, state)
    assert ears.finish(state).text == heard.text


def test_finish_leaves_the_state_for_a_speaker_who_only_paused() -> None:
    ears, first, second = tiny(), sound(0.8), sound(0.7, seed=5)
    state = ears.init_state()
    ears.step(first, state)
    assert ears.finish(state).text == ears.finish(state).text == ears.hear(Audio(first, 16000)).text
    ears.step(second, state)
    assert ears.finish(state).text == ears.hear(Audio(torch.cat([first, second]), 16000)).text


def test_forked_states_go_their_own_ways() -> None:
    ears, signal = tiny(), sound(1.2)
    state = ears.init_state()
    ears.step(signal[:9000], state)
    fork = state.clone()
    ears.step(sound(1.0, seed=9), fork)
    ears.step(signal[9000:], state)
    assert ears.finish(state).text == ears.hear(Audio(signal, 16000)).text


@pytest.mark.parametrize("samples", [0, 10, 16000])
def test_silence_says_nothing(samples: int) -> None:
    heard = tiny().hear(Audio(torch.zeros(samples), 16000))
    assert heard.text == ""


def test_stereo_of_another_rate_is_heard() -> None:
    signal = sound(1.0).repeat_interleave(3)
    assert tiny().hear(Audio(torch.stack([signal, signal]), 48000)).text


def test_what_silence_sounds_like_is_worked_out_once() -> None:
    ears = tiny()
    ears.init_state()
    kept = ears._quiet
    ears.init_state()
    assert ears._quiet is kept and len(kept) == 2
    silent = torch.full((1, 80, 120), -1.0)
    whole = WhisperBlockEncoder(
        EncoderConfig(width=16, layers=2, heads=2, inner=24, positions=60, block=60, right=0)
    ).eval()
    whole.load_state_dict(ears.encoder.state_dict())
    with torch.no_grad():
        expected = ears.decoder.listen(whole(silent))
    assert torch.allclose(ears._silence(5)[1][0], expected[1][0][:, :, 5:], atol=1e-5)
    assert ears._silence(55)[0][0].shape[2] == 5  # the window ends


def test_what_ended_by_itself_is_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    ears, said = tiny(adapter=False), [1, 2, 1, 2, 1, 2, 1, 2]

    def advance(writing) -> None:
        writing.tokens, writing.sure, writing.ended = said, [-0.1] * 9, True

    monkeypatch.setattr(ears.decoder, "advance", advance)
    assert ears.hear(Audio(sound(0.9), 16000)).text == "w1w2" * 4


def test_a_transcript_that_loops_is_made_anew_of_halves_and_cut_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    ears = tiny(adapter=False)
    monkeypatch.setattr("antiphon.models.asr.recognizer.MIN_SPLIT_SECONDS", 0.6)
    asked = []

    def advance(writing) -> None:
        asked.append(writing.max_tokens)
        writing.tokens, writing.sure = [4] * writing.max_tokens, [-0.1] * writing.max_tokens

    def together(writings) -> None:
        for writing in writings:
            advance(writing)

    monkeypatch.setattr(ears.decoder, "advance", advance)
    monkeypatch.setattr(ears.decoder, "advance_together", together)
    assert ears.hear(Audio(sound(0.9), 16000)).text == "w4 w4"  # each half, as it can't be halved again
    assert len(asked) == 3 and asked[0] > asked[1]


def test_a_step_does_a_bounded_amount_of_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """However the decoder loops over what was said before, one step of 80 ms does one block or a few passes."""
    ears, state, passes = tiny(), None, []
    advance = ears.decoder.advance
    monkeypatch.setattr(ears.decoder, "advance", lambda writing: (passes.append(1), advance(writing)))
    state = ears.init_state()
    for part in sound(6.0).split(1280):
        passes.clear()
        ears.step(part, state, ahead=True)
        assert len(passes) <= 2
    assert state.frames > 0 or state.passages


def noises() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    white = torch.randn(48000, generator=generator)
    time = torch.arange(48000) / 16000
    pink = torch.fft.irfft(torch.fft.rfft(white) / torch.arange(1, 24002).sqrt(), 48000)
    click = torch.zeros(48000)
    click[::8000] = 0.9
    return {
        "white": 0.03 * white,
        "pink": 0.1 * pink / pink.abs().max(),
        "hum": 0.3 * torch.sin(2 * torch.pi * 50 * time),
        "beep": 0.3 * torch.sin(2 * torch.pi * 1000 * time[:4800]),
        "sweep": 0.3 * torch.sin(2 * torch.pi * (200 + 500 * time) * time),
        "clicks": click,
        "faint": 1e-3 * white,
        "short": 0.1 * white[:800],
    }


@pytest.mark.parametrize("name", noises())
def test_noise_says_nothing(name: str) -> None:
    heard = tiny().hear(Audio(noises()[name], 16000))
    assert heard.text == ""


def test_quiet_speech_is_speech() -> None:
    assert tiny().hear(Audio(sound(1.0) * 0.005, 16000)).text


SPECIAL = "<|endoftext|> <|startoftranscript|> <|en|> <|ru|> <|translate|> <|transcribe|> <|nospeech|> <|notimestamps|>"


def speaks_two(seed: int = 3, odds: dict[str, float] | None = None) -> Recognizer:
    """As `tiny` without an adapter, but of two languages; `odds`: how likely the decoder finds each of them."""
    vocabulary = {f" w{i}": i for i in range(30)} | {name: 30 + i for i, name in enumerate(SPECIAL.split())}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token=" w0"))
    made.decoder = decoders.Fuse()
    ears = tiny(adapter=False, seed=seed)
    special = {"start": (31, 32, 35, 37), "no_speech": 36, "languages": (32, 33), "alignment_heads": ((1, 0),)}
    decoder = WhisperDecoder(replace(ears.decoder.config, **special))
    decoder.load_state_dict(ears.decoder.state_dict())
    recognizer = Recognizer(ears.encoder, None, None, decoder, made).eval()
    if odds is not None:
        decoder._languages = lambda logits: torch.tensor([odds["en"], odds["ru"]])
    return recognizer


@pytest.mark.parametrize("odds", [{"en": 0.9, "ru": 0.1}, {"en": 0.01, "ru": 0.99}])
@pytest.mark.parametrize("seconds", [0.9, 3.1])
def test_languages_and_words_are_the_same_in_pieces_and_together(odds: dict[str, float], seconds: float) -> None:
    ears, signal = speaks_two(odds=odds), sound(seconds)
    options = ears.options(words=True)
    whole = ears.hear(Audio(signal, 16000), options)
    assert whole.language == max(odds, key=odds.get) and whole.words and whole.duration == pytest.approx(seconds)
    assert " ".join(word.text for word in whole.words) == whole.text
    assert all(0 <= word.start < word.end <= seconds + 0.1 and 0 < word.confidence <= 1 for word in whole.words)
    assert [word.start for word in whole.words] == sorted(word.start for word in whole.words)
    for seed, ahead in ((0, True), (1, False)):
        draw, state, at = random.Random(seed), ears.init_state(options), 0
        while at < len(signal):
            size = draw.randint(1, 5000)
            ears.step(signal[at : at + size], state, ahead=ahead)
            at += size
        heard = ears.finish(state)
        assert (heard.text, heard.language) == (whole.text, whole.language)
        for mine, its in zip(heard.words, whole.words, strict=True):
            assert (mine.text, mine.start, mine.end) == (its.text, its.start, its.end)


def test_a_language_that_is_told_is_written_and_one_that_is_expected_where_there_is_doubt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ears, audio, begun = speaks_two(odds={"en": 0.4, "ru": 0.6}), Audio(sound(0.9), 16000), []
    begin = ears.decoder.begin

    def watched(*given: object, **how: object) -> object:
        begun.append((how["start"], how["english"]))
        return begin(*given, **how)

    monkeypatch.setattr(ears.decoder, "begin", watched)
    for how, language, start, english in (
        ({}, "en", (31, 32, 35, 37), True),
        ({"language": "English"}, "en", (31, 32, 35, 37), True),
        ({"language": "ru-RU"}, "ru", (31, 33, 35, 37), False),
        ({"expected": "ru"}, "ru", (31, 33, 35, 37), False),
        ({"language": "ru", "translate": True}, "ru", (31, 33, 34, 37), True),
    ):
        assert ears.hear(audio, ears.options(**how)).language == language
        assert begun.pop() == (start, english)
    with pytest.raises(ModelError, match="en, ru"):
        ears.options(language="German")


def test_one_language_alone_is_told_so() -> None:
    assert tiny().hear(Audio(sound(0.9), 16000)).language is None
    assert tiny().options(language="en").language == "en"
    with pytest.raises(ModelError, match="English alone"):
        tiny().options(translate=True)
    with pytest.raises(ModelError, match="English alone"):
        tiny(decoder=False).options(words=True)


def test_long_sound_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long a recording is, a few windows of it are held at once, and what is said is that of the windows."""
    monkeypatch.setattr("antiphon.models.asr.recognizer.TOGETHER", 3)
    ears, pieces, held = tiny(adapter=False), sound(12.0).split(4000), []
    step = ears.step

    def watched(samples, state, **how) -> None:
        step(samples, state, **how)
        held.append(len(state.samples) + sum(len(window.samples) for window in state.closed))

    monkeypatch.setattr(ears, "step", watched)
    heard = ears.hear(iter(pieces))
    assert max(held) <= 4 * 60 * 320 and len(heard.passages) >= 12000 // 1200
    ends = [0.0, *(passage.end for passage in heard.passages)]
    assert [passage.start for passage in heard.passages] == ends[:-1] and ends[-1] == pytest.approx(12.0)


def test_how_words_were_heard_is_given_if_it_is_asked_for() -> None:
    ears, signal = tiny(), Audio(sound(1.1), 16000)
    plain, told = ears.hear(signal), ears.hear(signal, replace(ears.options(), states=True))
    assert plain.text == told.text and all(passage.spoken is None for passage in plain.passages)
    assert all(passage.spoken is not None for passage in told.passages)
    for passage in told.passages:
        assert "".join(passage.spoken.texts) == passage.text.replace(" ", "")
        assert passage.spoken.states.shape == (len(passage.spoken.texts), 32)
    assert [replace(passage, spoken=None) for passage in told.passages] == list(plain.passages)
