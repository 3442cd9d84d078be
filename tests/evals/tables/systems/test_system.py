"""Whatever can be measured answers the same questions."""

from __future__ import annotations

import base64
import io
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import soundfile
import torch

from antiphon.audio.io import Audio
from antiphon.errors import EvalError, ModelError
from antiphon.evals.tables.systems.opening import open_system
from antiphon.evals.tables.systems.system import EndpointSystem


@pytest.fixture
def endpoint():
    """An endpoint that keeps what it is asked and answers as it is told to."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.server.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.server.keys.append(self.headers["Authorization"])
            body = self.server.reply.encode()
            self.send_response(self.server.status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.asked, server.keys, server.status = [], [], 200
    server.reply = json.dumps({"choices": [{"message": {"content": " A dog. "}}]})
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join()


def test_an_endpoint_is_asked_as_openai_s_clients_ask(endpoint) -> None:
    system = open_system(f"http://127.0.0.1:{endpoint.server_port}/v1#their-model", {})
    assert isinstance(system, EndpointSystem)
    tone = Audio(torch.sin(torch.arange(4410) * 0.1), 44_100)
    assert system.answer("What is heard?", tone, 7) == "A dog."
    asked = endpoint.asked[0]
    assert asked["model"] == "their-model" and asked["max_tokens"] == 7 and asked["temperature"] == 0
    sound, text = asked["messages"][0]["content"]
    assert text == {"type": "text", "text": "What is heard?"} and sound["input_audio"]["format"] == "wav"
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(sound["input_audio"]["data"])))
    assert rate == 16_000 and len(samples) == pytest.approx(1600, abs=2)
    system.answer("Hello")
    assert endpoint.asked[1]["messages"][0]["content"] == "Hello"
    system.transcribe(tone, translate=True)
    assert "English" in endpoint.asked[2]["messages"][0]["content"][1]["text"]


def test_an_endpoint_that_fails_says_how(endpoint, monkeypatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    address = f"http://127.0.0.1:{endpoint.server_port}/v1"
    endpoint.status, endpoint.reply = 429, "slow down"
    with pytest.raises(EvalError, match="429, slow down") as told:
        EndpointSystem(address).answer("Hello")
    assert endpoint.keys == ["Bearer secret"] and "secret" not in str(told.value)
    endpoint.status, endpoint.reply = 200, "[]"
    with pytest.raises(EvalError, match="another form"):
        EndpointSystem(address).answer("Hello")
    endpoint.reply = json.dumps({"choices": [{"message": {"content": None}}]})
    assert EndpointSystem(address).answer("Hello") == "", "nothing was said"
    with pytest.raises(EvalError, match="Is it running"):
        EndpointSystem("http://127.0.0.1:9/v1").answer("Hello")


def test_a_folder_that_is_no_model_is_told(tmp_path) -> None:
    (tmp_path / "preprocessor_config.json").write_text("{}")
    with pytest.raises(ModelError, match="transformers can't open"):
        open_system(str(tmp_path), {})


@pytest.fixture(scope="module")
def qwen2_audio(tmp_path_factory):
    """A tiny random Qwen2-Audio, as `transformers` saves it."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import (
        PreTrainedTokenizerFast,
        Qwen2AudioConfig,
        Qwen2AudioForConditionalGeneration,
        Qwen2AudioProcessor,
        WhisperFeatureExtractor,
    )

    path = tmp_path_factory.mktemp("qwen2-audio")
    special = ["<|endoftext|>", "<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>"]
    pieces = special + sorted(pre_tokenizers.ByteLevel.alphabet())
    plain = Tokenizer(models.BPE(vocab={piece: number for number, piece in enumerate(pieces)}, merges=[]))
    plain.pre_tokenizer, plain.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    plain.add_special_tokens([AddedToken(piece, special=True, normalized=False) for piece in special])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, eos_token=special[0], pad_token=special[0])
    template = (
        "{% for message in messages %}{% for part in message['content'] %}{% if part['type'] == 'audio' %}"
        "<|audio_bos|><|AUDIO|><|audio_eos|>{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endfor %}"
    )
    extractor = WhisperFeatureExtractor(feature_size=16)
    Qwen2AudioProcessor(extractor, tokenizer, chat_template=template).save_pretrained(path)
    text = {
        "model_type": "qwen2", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": len(pieces), "bos_token_id": 0,
        "eos_token_id": 0,
    }  # fmt: skip
    audio = {
        "model_type": "qwen2_audio_encoder", "num_mel_bins": 16, "d_model": 32, "encoder_layers": 1,
        "encoder_attention_heads": 2, "encoder_ffn_dim": 32, "max_source_positions": 1500,
    }  # fmt: skip
    torch.manual_seed(0)
    config = Qwen2AudioConfig(audio_config=audio, text_config=text, audio_token_index=1)
    Qwen2AudioForConditionalGeneration(config).save_pretrained(path)
    return path


def test_an_audio_model_of_transformers_hears_and_answers(qwen2_audio) -> None:
    system = open_system(str(qwen2_audio), {})
    tone = Audio(torch.sin(torch.arange(32_000) * 0.1), 16_000)
    noise = Audio(torch.rand(32_000, generator=torch.Generator().manual_seed(0)) - 0.5, 16_000)
    replies = [system.answer("What is heard?", sound, 12) for sound in (tone, noise)]
    assert all(isinstance(reply, str) for reply in replies)
    assert replies[0] != replies[1], "what it says depends on what it hears"
    assert system.answer("Hello", None, 4) == system.answer("Hello", None, 4)
