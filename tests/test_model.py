"""What `load` takes, refuses and gives: models of both kinds, one interface."""

import asyncio
import dataclasses
import functools
import json
import shutil
from types import SimpleNamespace

import pytest
import torch

import antiphon
from antiphon import hub
from antiphon.audio.io import Audio
from antiphon.audio.speech import SpeechDetector
from antiphon.codecs.mini.model import MiniCodec
from antiphon.dialogue.events import AudioEvent, EndEvent, HeardEvent, Sampling, TextEvent
from antiphon.dialogue.turn_taking.decision import TurnDecision
from antiphon.encoders.whisper.encoder import WhisperBlockEncoder
from antiphon.errors import AntiphonError, ConfigError, HubError, ModelError, SessionError
from antiphon.model import DuplexModel, HalfDuplexModel
from antiphon.models.asr.recognizer import Heard
from antiphon.models.llm.thinker import Thinker
from antiphon.models.lora import Lora, LoraConfig
from antiphon.models.moshi.bundle import Duplex, codec_name
from antiphon.models.moshi.model import MoshiSampling
from antiphon.models.scene.listener import SceneListener
from antiphon.models.scene.network import NetworkConfig, SceneNetwork
from antiphon.models.tts.talker import Talker
from tests.codecs.mini.test_model import TINY as TINY_CODEC
from tests.data.dialogue.test_heard import save_tiny_encoder
from tests.dialogue.duplex.tiny_duplex import LIVELY, noise, save_tiny_duplex, tiny_duplex
from tests.dialogue.pretended import CountingRecognizer
from tests.models.llm.test_thinker import TEMPLATE, make_llm
from tests.models.scene.test_hearing import ENCODER, LABELS, NETWORK
from tests.models.tts.test_talker import TINY as TINY_TALKER


def test_a_device_or_a_type_that_is_not_there_is_refused_before_anything_is_fetched() -> None:
    with pytest.raises(ConfigError, match="no device 'gpu'"):
        antiphon.load("mini", device="gpu")
    with pytest.raises(ConfigError, match="float32, float16, bfloat16, not 'int4'"):
        antiphon.load("mini", dtype="int4")
    with pytest.raises(ConfigError, match="talk on the CPU"):
        antiphon.load("omni", dtype="bfloat16")


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Folders of tiny random parts that fit each other; of the recognizer's, nothing but their names."""
    folder = tmp_path_factory.mktemp("parts")
    for role in ("asr", "adapter", "thinker"):
        (folder / role).mkdir()
        (folder / role / "config.json").write_text("{}")
    make_llm(folder / "thinker", TEMPLATE)
    torch.manual_seed(0)
    thinker = Thinker.from_pretrained(folder / "thinker")
    Lora(thinker.model, LoraConfig(rank=2, first=1, last=3)).save(folder / "lora")
    talker = Talker(dataclasses.replace(TINY_TALKER, hidden=thinker.model.config.hidden_size))
    torch.nn.init.constant_(talker.encoder.duration[-1].bias, 1.2)
    talker.save_pretrained(folder / "talker")
    MiniCodec(TINY_CODEC).save_pretrained(folder / "codec")
    SceneListener(SceneNetwork(NetworkConfig(labels=LABELS, **NETWORK))).save(folder / "scene")
    return {role: folder / role for role in HalfDuplexModel.ROLES}


def hears_hello(sound, options):
    for _ in [sound] if isinstance(sound, Audio) else sound:  # a recording, or pieces of one
        pass
    return Heard("hello")


@pytest.fixture
def half_duplex(parts, monkeypatch):
    recognizer = CountingRecognizer()
    recognizer.whole = recognizer.encoder = WhisperBlockEncoder(ENCODER).eval()
    recognizer.hear = hears_hello
    monkeypatch.setattr("antiphon.model.half_duplex.Recognizer.from_pretrained", lambda *_, **__: recognizer)
    return antiphon.load("mini", **parts)


def test_what_was_saved_is_loaded_part_by_part(half_duplex, tmp_path):
    with torch.no_grad():
        for weight in half_duplex.talker.parameters():
            weight.copy_((weight * 1.5).half())  # as a training might
    folder = half_duplex.save(tmp_path / "saved")
    again = antiphon.load(folder)
    assert isinstance(again, HalfDuplexModel) and again.backend.name == "saved"
    assert set(again.folders.values()) == {folder / role for role in HalfDuplexModel.ROLES}
    for model in (half_duplex, again):
        assert model.reply_text("hello") == half_duplex.reply_text("hello")
    for one, other in zip(half_duplex.talker.parameters(), again.talker.parameters(), strict=True):
        assert torch.equal(one, other)
    assert half_duplex.say("Good day.").samples.equal(again.say("Good day.").samples)
    with pytest.raises(HubError, match="saved' has no part 'nose'"):
        antiphon.load(folder, nose=folder)


@pytest.fixture(scope="module")
def other(parts, tmp_path_factory):
    """A thinker of another family and width than the talker was trained beside: biases, a head of its own."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    folder = tmp_path_factory.mktemp("other") / "qwen"
    make_llm(folder, TEMPLATE)
    vocabulary = json.loads((folder / "config.json").read_text())["vocab_size"]
    torch.manual_seed(2)
    config = Qwen2Config(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=vocabulary, tie_word_embeddings=False, initializer_range=0.4, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    Qwen2ForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture
def with_other(parts, other, monkeypatch):
    """The preset that has neither adapter nor low-rank adapters."""
    monkeypatch.setattr("antiphon.model.half_duplex.Recognizer.from_pretrained", lambda *_, **__: CountingRecognizer())
    monkeypatch.setattr("antiphon.models.llm.thinker.assistant_prompt", lambda now: "Be kind.")  # at any minute
    own = {role: parts[role] for role in ("asr", "codec", "talker")}
    return antiphon.load("small", scene=None, **own, thinker=other)


def test_any_thinker_goes_with_the_voice(with_other, half_duplex, tmp_path):
    assert half_duplex.synthesizer.reads_thinker and not with_other.synthesizer.reads_thinker
    assert set(with_other.folders) == {"asr", "codec", "talker", "thinker"} and with_other.thinker.lora is None
    again = antiphon.load(with_other.save(tmp_path / "mine"))
    assert set(again.folders) == set(with_other.folders) and again.thinker.lora is None
    for model in (with_other, again):
        assert model.reply_text("hello") == with_other.reply_text("hello") != ""
        reply = model.chat().say_typed("hello")
        assert reply.audio is not None and reply.text == with_other.chat().say_typed("hello").text
        assert model.say("Good day.").duration > 0 and model.think(Heard("hello")) == model.reply_text("hello")
        with model.session() as session:
            assert session.step(torch.zeros(session.frame_samples)) == []


def test_a_thinker_may_have_weights_of_half_the_size(with_other, parts, other):
    own = {role: parts[role] for role in ("asr", "codec", "talker")}
    half = antiphon.load("small", scene=None, dtype="bfloat16", **own, thinker=other)
    assert half.thinker.model.norm.dtype == torch.bfloat16 and half.talker.bias.dtype == torch.float32
    assert half.chat().say_typed("hello").audio is not None


def test_adapters_go_with_their_own_thinker(parts, other, half_duplex):
    assert half_duplex.thinker.lora is not None
    replaced = antiphon.load("mini", **{**{role: parts[role] for role in ("asr", "codec", "talker")}, "llm": other})
    assert set(replaced.folders) == {"asr", "codec", "talker", "thinker"}
    with pytest.raises(AntiphonError):  # one that is named is taken, and doesn't fit
        antiphon.load("mini", **{**parts, "thinker": other})


def test_a_model_of_an_earlier_version_is_loaded(half_duplex, tmp_path):
    folder = half_duplex.save(tmp_path / "saved")
    (folder / "thinker").rename(folder / "llm")
    config = json.loads((folder / "config.json").read_text())
    config["parts"] = sorted(role if role != "thinker" else "llm" for role in config["parts"])
    (folder / "config.json").write_text(json.dumps(config))
    assert antiphon.load(folder).folders["thinker"] == folder / "llm"


def test_a_thinker_that_cannot_be_had_says_why(parts, tmp_path, monkeypatch):
    own = {role: parts[role] for role in ("asr", "codec", "talker")} | {"scene": None}
    monkeypatch.setattr("antiphon.model.half_duplex.Recognizer.from_pretrained", lambda *_, **__: CountingRecognizer())
    monkeypatch.setattr("antiphon.hub.memory.free_memory", lambda: 1000)
    with pytest.raises(ModelError, match="GB of memory, and 0.0 GB are free"):
        antiphon.load("base", **own, thinker=parts["thinker"])
    shutil.copytree(parts["thinker"], tmp_path / "bare", ignore=shutil.ignore_patterns("*.safetensors"))
    with pytest.raises(AntiphonError, match=r"bare.*(no weights|safetensors)"):
        antiphon.load("base", **own, thinker=tmp_path / "bare")
    with pytest.raises(HubError, match="no such folder or file"):
        antiphon.load("base", **own, thinker=tmp_path / "missing.gguf")


def test_nothing_named_is_what_fits(monkeypatch):
    taken = []
    monkeypatch.setattr(HalfDuplexModel, "from_pretrained", classmethod(lambda cls, name, **parts: taken.append(name)))
    for free in (16_000_000_000, 1_000_000_000):
        monkeypatch.setattr("antiphon.hub.memory.free_memory", lambda free=free: free)
        antiphon.load()
    assert taken == ["base", "small"]


def test_a_chat_remembers_aloud_and_in_writing(half_duplex):
    for text_only in (False, True):
        chat = half_duplex.chat(text_only=text_only)
        replies = [chat.say_typed(text) for text in ("hello", "and then")]
        assert [reply.heard for reply in replies] == ["hello", "and then"]
        assert all((reply.audio is None) is text_only for reply in replies) and len(chat._past) == 4
    with pytest.raises(SessionError, match="sees nothing"):
        half_duplex.chat().say_typed("what is it", [{"type": "image", "image": "cat.png"}])
    with pytest.raises(ModelError, match="no voice 'bert'; there are: heart"):
        half_duplex.chat(Sampling(voice="bert"))
    heard = Heard(" ")
    half_duplex.recognizer.hear = lambda audio, options: heard
    assert half_duplex.reply(torch.zeros(16000), sample_rate=16000).text == ""
    assert half_duplex.think(heard) == ""


def test_an_answer_is_streamed_and_waited_for_by_an_event_loop(half_duplex, monkeypatch):
    monkeypatch.setattr("antiphon.model.half_duplex.Sampling", functools.partial(Sampling, max_tokens=3))
    question = Audio(0.1 * torch.randn(16000), 16000)
    whole = half_duplex.reply(question, seed=3)
    events = list(half_duplex.stream_reply(question, seed=3))
    assert isinstance(events[0], HeardEvent) and events[0].heard == "hello" and isinstance(events[-1], EndEvent)
    assert "".join(each.text for each in events if isinstance(each, TextEvent)).strip() == whole.text
    sound = torch.cat([each.audio.samples for each in events if isinstance(each, AudioEvent)])
    assert torch.equal(sound, whole.audio.samples)

    async def ask():
        heard, reply = await asyncio.gather(half_duplex.ahear(question), half_duplex.areply(question, seed=3))
        spoken = await half_duplex.asay("Hello.", seed=1)
        kinds = [type(event) async for event in half_duplex.astream_reply(question, seed=3)]
        async for _ in half_duplex.astream_reply(question, seed=3):
            break  # whoever leaves it early leaves nothing behind
        return heard, reply, spoken, kinds

    heard, reply, spoken, kinds = asyncio.run(ask())
    assert heard.text == "hello" and reply.text == whole.text and kinds == [type(event) for event in events]
    assert torch.equal(spoken.samples, half_duplex.say("Hello.", seed=1, voice="heart").samples)
    with pytest.raises(ModelError, match="There is no voice 'nobody'; there are: heart"):
        half_duplex.say("Hello.", voice="nobody")


def test_a_chat_is_streamed_forgets_and_keeps_what_was_said_before_it_was_left(half_duplex):
    chat = half_duplex.chat(Sampling(max_tokens=4))
    events = chat.stream_typed("One?")
    first = next(event for event in events if isinstance(event, TextEvent))
    events.close()
    assert [message.role for message in chat._past] == ["user", "assistant"]
    assert chat._past[1].text.startswith(first.text.strip()[:1])
    chat.forget()
    fresh = half_duplex.chat(Sampling(max_tokens=4))
    assert chat.say_typed("One?").text == fresh.say_typed("One?").text
    with pytest.raises(ModelError, match="no voice"):
        chat.speak_as("nobody")
    chat.speak_as("heart")


def test_more_than_words_is_heard_with_the_part_for_it_alone(half_duplex, parts):
    sound = Audio(0.1 * torch.randn(16000), 16000)
    heard, alone = half_duplex.hear(sound), half_duplex.hear(sound, scene=False)
    assert heard.scene.duration == pytest.approx(1.04) and alone.scene is None and heard.text == alone.text == "hello"
    assert half_duplex.reply(sound).scene == heard.scene and half_duplex.think(heard)
    without = antiphon.load("mini", **{**parts, "scene": None})
    assert without.hear(sound).scene is None and without.reply(sound).scene is None
    with pytest.raises(HubError, match="can't do without its thinker"):
        antiphon.load("mini", **{**parts, "thinker": None})


def test_every_mode_of_a_model_that_takes_turns_has_a_session(half_duplex):
    for mode, direction in (("half-duplex", "listen"), ("simplex", "listen"), ("simplex", "speak")):
        with half_duplex.session(mode, direction=direction) as session:
            assert session.step(torch.zeros(session.frame_samples)) == []
    with pytest.raises(SessionError, match="no 'telepathy' session; it has 'half-duplex', 'simplex'"):
        half_duplex.session("telepathy")


def test_a_folder_of_something_else_is_refused(tmp_path):
    MiniCodec(TINY_CODEC).save_pretrained(tmp_path / "codec")
    with pytest.raises(ModelError, match="'mini-codec'.*antiphon.codecs.load"):
        antiphon.load(tmp_path / "codec")
    (tmp_path / "codec" / "config.json").write_text("no json")
    with pytest.raises(ModelError, match="can't be read"):
        antiphon.load(tmp_path / "codec")


def test_both_kinds_of_models_have_the_whole_interface():
    for name in ("hear", "reply", "reply_text", "say", "chat", "session", "save"):
        assert callable(getattr(HalfDuplexModel, name)) and callable(getattr(DuplexModel, name))


@pytest.mark.slow
def test_a_model_of_the_qwen_family_hears_thinks_and_speaks(question):
    model = antiphon.load("small")
    reply = model.reply(question)
    assert "italy" in reply.heard.lower() and "Rome" in reply.text and reply.audio.duration > 1.0
    assert "rome" in model.hear(reply.audio).text.lower()
    chat = model.chat()
    chat.say_typed("My name is Annabel.")
    assert "Annabel" in chat.say_typed("What is my name?").text


@pytest.mark.slow
def test_the_real_model_is_saved_and_loaded(mini, question, tmp_path):
    again = antiphon.load(mini.save(tmp_path / "mine"))
    one, other = mini.reply(question), again.reply(question)
    assert one.text == other.text and torch.equal(one.audio.samples, other.audio.samples)


# Duplex


@pytest.fixture(scope="module")
def duplex_folder(tmp_path_factory):
    return save_tiny_duplex(tmp_path_factory.mktemp("duplex"))


def test_a_duplex_model_may_have_weights_of_half_the_size(duplex_folder):
    model = antiphon.load(str(duplex_folder), dtype="bfloat16")
    assert model.duplex.moshi.text_head.weight.dtype == torch.bfloat16
    assert {weight.dtype for weight in model.duplex.codec.parameters()} == {torch.float32}
    replay = model.replay(Audio(noise(6).flatten(), 2400), after=0.0, seed=3)
    assert replay.model.dtype == torch.float32 and replay.model.abs().max() > 0


def test_a_folder_is_a_model(duplex_folder):
    model = antiphon.load(str(duplex_folder))
    assert model.duplex.sampling == LIVELY and model.duplex.sample_rate == 2400
    replay = model.replay(Audio(noise(6).flatten(), 2400), after=0.0, seed=3)
    again = antiphon.load("mini-duplex", duplex=duplex_folder).replay(
        Audio(noise(6).flatten(), 2400), after=0.0, seed=3
    )
    assert torch.equal(replay.model, again.model) and replay.model.abs().max() > 0


def test_what_is_said_is_heard_by_the_speech_encoder_that_is_given(tmp_path):
    duplex = tiny_duplex(hearing=True)
    duplex.codec.save_pretrained(tmp_path / "codec")
    duplex.save_pretrained(tmp_path / "duplex", codec=str(tmp_path / "codec"))
    whisper = save_tiny_encoder(tmp_path / "whisper")
    model = antiphon.load(str(tmp_path / "duplex"), asr=whisper)
    heard = model.replay(Audio(noise(6).flatten(), 2400), after=0.0, seed=3)
    wanted = DuplexModel(duplex).replay(Audio(noise(6).flatten(), 2400), 0.0, 3)
    torch.testing.assert_close(heard.model, wanted.model, atol=0.02, rtol=0.0)  # weights are kept in float16
    model.duplex.moshi.hearing.config.width = 12  # as if it had been trained with another
    del model.duplex.__dict__["audio_encoder"]
    with pytest.raises(ModelError, match="trained with another encoder"):
        model.engine()


def test_every_mode_has_a_session(duplex_folder):
    model = antiphon.load(duplex_folder)
    for mode in ("full-duplex", "half-duplex", "simplex"):
        with model.session(mode) as session:
            session.step(noise(1)[0])
    with pytest.raises(AntiphonError, match="triplex"):
        model.session("triplex")
    assert len(model.engine(capacity=4).conversations) == 0
    start = model.prompt("be brief", Audio(noise(3).flatten(), 2400))
    assert model.stream(start=start).step(noise(1)[0])


def test_the_folder_says_which_codec_and_how_to_draw(duplex_folder, tmp_path):
    assert codec_name(duplex_folder).endswith("codec")
    duplex = Duplex.from_pretrained(duplex_folder)
    duplex.sampling = MoshiSampling(temperature=0.5)
    duplex.save_pretrained(tmp_path / "again", codec_name(duplex_folder))
    assert Duplex.from_pretrained(tmp_path / "again").sampling == MoshiSampling(temperature=0.5)
    (tmp_path / "again" / "generation_config.json").write_text('{"temperature": -1}')
    with pytest.raises(AntiphonError, match="0 or more"):
        Duplex.from_pretrained(tmp_path / "again")
    with pytest.raises(ModelError, match="no duplex model"):
        codec_name(tmp_path)


def test_wrong_names_say_what_there_is(tmp_path):
    with pytest.raises(HubError, match="'maxi'.*base, small, mini, mini-duplex"):
        antiphon.load("maxi")
    with pytest.raises(HubError, match="no part 'talker'; its parts are asr, duplex, codec"):
        antiphon.load("mini-duplex", talker=tmp_path)
    with pytest.raises(HubError, match=r"no config\.json"):
        antiphon.load(str(tmp_path))


def test_what_was_saved_is_loaded_with_its_codec(duplex_folder, tmp_path):
    model, said = antiphon.load(duplex_folder), Audio(noise(6).flatten(), 2400)
    again = antiphon.load(model.save(tmp_path / "saved"))
    assert isinstance(again, DuplexModel) and again.codec == str(tmp_path / "saved" / "codec")
    assert torch.equal(model.replay(said, 0.0, seed=3).model, again.replay(said, 0.0, seed=3).model)


def test_a_duplex_model_hears_replies_and_says(duplex_folder):
    model = antiphon.load(duplex_folder)
    model.recognizer = CountingRecognizer()  # in the place of one that would be fetched
    model.recognizer.hear = lambda audio, options: SimpleNamespace(text=f"{audio.duration:.2f} s")
    said = Audio(noise(12).flatten(), 2400)
    assert model.hear(said).text == "0.96 s"
    reply = model.reply(said, seed=3, temperature=1.0)
    assert reply.heard == "0.96 s" and reply.timings["speech"] == reply.audio.duration
    aloud = model.say("good day", seed=1)
    assert aloud.sample_rate == 2400 and 3.5 < aloud.duration + 3.0 < 8.0
    for refused in (lambda: model.reply_text("Hello?"), lambda: model.chat()):
        with pytest.raises(SessionError, match="antiphon.load"):
            refused()


def test_a_model_that_takes_turns_has_full_duplex_and_says_what_it_lacks(half_duplex):
    class Turns:
        sample_rate = half_duplex.backend.sample_rate

        def step(self, user, own):
            return TurnDecision()

        def judge_words(self, chance):
            pass

    with half_duplex.session("full-duplex", turns=Turns(), pace=1.0) as session:
        events = session.step(torch.zeros(session.frame_samples))
        assert [type(event) for event in events] == [AudioEvent] and session.time == pytest.approx(0.08)
    with pytest.raises(SessionError, match="endpointer"):
        half_duplex.session("full-duplex", endpointer=SpeechDetector())
    with pytest.raises(SessionError, match="half-duplex"):
        half_duplex.session("half-duplex", pace=1.0)


def test_a_missing_part_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setattr("antiphon.hub.folders.weights_dir", lambda name: tmp_path / name)
    with pytest.raises(HubError, match="antiphon train recipes/duplex/hearing-replies.yaml"):
        hub.folder("duplex", "mini-duplex")
    assert hub.present(hub.MINI_DUPLEX.parts["duplex"]) is None
