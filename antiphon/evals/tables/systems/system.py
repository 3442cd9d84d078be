"""What can be measured: a model that hears a sound and answers in writing, whoever made it.

Ours are opened by `antiphon.load`; `transformers` audio models from a folder; an endpoint that takes OpenAI's chat
completions with sound, by its address.
"""

from __future__ import annotations

import base64
import io
import json
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from antiphon.audio.io import Audio
from antiphon.dialogue.events import TextEvent
from antiphon.errors import EvalError, ModelError
from antiphon.evals.assistant.answers import written

RATE = 16_000  # Hz that sounds are given to others' models in
ENDPOINT_SECONDS = 120  # that an endpoint may take to answer


class System(Protocol):
    """What is measured.

    Attributes:
        name: of it, in words.
    """

    name: str

    def answer(self, prompt: str, audio: Audio | None = None, max_tokens: int | None = None) -> str:
        """What it answers to a question in writing about a sound; without a prompt, to what is said in the sound."""

    def transcribe(self, audio: Audio, language: str = "en", translate: bool = False) -> str:
        """What is said in a sound, in its language or in English."""


Calls = list[dict[str, Any]]  # {"function": name, "args": {...}} each
CALL_ROUNDS = 5  # of calls before an answer


class Calling(Protocol):
    """What is measured where functions may be called."""

    name: str

    def calls(
        self, audio: Audio, functions: list[dict[str, Any]], run: Callable[[str, dict[str, Any]], str], max_tokens: int
    ) -> tuple[str, Calls]:
        """What it says to a spoken request, and the functions that it called before."""


class OurSystem:
    """A model of ours that takes turns.

    Args:
        model: it, as `antiphon.load` gives it.
        name: of it.
    """

    def __init__(self, model: Any, name: str) -> None:
        self.model, self.name = model, name

    def answer(self, prompt: str, audio: Audio | None = None, max_tokens: int | None = None) -> str:
        """See `System.answer`."""
        from antiphon.dialogue.half_duplex import as_hearing
        from antiphon.dialogue.tool_calls import Message

        past = []
        if audio is not None:
            message = as_hearing(self.model.hear(audio), self.model.backend.reading).message()
            past = [message] if message.is_something else []
        if prompt:
            past.append(Message("user", prompt))
        return written(self.model.backend.chat(), past, max_tokens) if past else ""

    def calls(
        self, audio: Audio, functions: list[dict[str, Any]], run: Callable[[str, dict[str, Any]], str], max_tokens: int
    ) -> tuple[str, Calls]:
        """See `Calling.calls`.

        Raises:
            EvalError: the model can't call functions.
        """
        from antiphon.dialogue.events import Sampling
        from antiphon.dialogue.half_duplex import as_hearing
        from antiphon.dialogue.tools import Tool, ToolChat

        if not self.model.backend.calls_functions:
            raise EvalError(f"{self.name} can't call functions: its chat template doesn't take them.")
        made: Calls = []

        def tool(shown: dict[str, Any]) -> Tool:
            about = shown["function"]

            def called(arguments: dict[str, Any], name: str = about["name"]) -> str:
                made.append({"function": name, "args": arguments})
                return run(name, arguments)

            return Tool(about["name"], about["description"], about["parameters"], called)

        message = as_hearing(self.model.hear(audio), self.model.backend.reading).message()
        if not message.is_something:
            return "", []
        chat = ToolChat(self.model.backend.chat(), [tool(each) for each in functions], max_rounds=CALL_ROUNDS)
        reply = chat.answer([message], Sampling(max_tokens=max_tokens), None, False)
        said = "".join(event.text for event in reply.events() if isinstance(event, TextEvent))
        return said.strip(), made

    def transcribe(self, audio: Audio, language: str = "en", translate: bool = False) -> str:
        """See `System.transcribe`."""
        return self.model.hear(audio, language=language, translate=translate, scene=False).text.strip()

    def say(self, text: str) -> Audio:
        """A text, read aloud in the model's voice."""
        return self.model.say(text)


class EndpointSystem:
    """A model behind an OpenAI-compatible endpoint.

    Args:
        address: up to its version, "http://localhost:8000/v1"; behind a #, the model's name there.
        key: that it asks for; None is that of the environment's OPENAI_API_KEY.
    """

    def __init__(self, address: str, key: str | None = None) -> None:
        place, _, model = address.partition("#")
        self.address, self.model, self.name = place.rstrip("/"), model or "default", address
        self.key = key or os.environ.get("OPENAI_API_KEY", "none")

    def answer(self, prompt: str, audio: Audio | None = None, max_tokens: int | None = None) -> str:
        """See `System.answer`.

        Raises:
            EvalError: nobody answers, or not in OpenAI's form.
        """
        parts: list[dict[str, Any]] = []
        if audio is not None:
            sound = {"data": base64.b64encode(as_wav(audio)).decode(), "format": "wav"}
            parts.append({"type": "input_audio", "input_audio": sound})
        if prompt:
            parts.append({"type": "text", "text": prompt})
        content: Any = prompt if audio is None else parts
        asked: dict[str, Any] = {"model": self.model, "messages": [{"role": "user", "content": content}]}
        asked |= {"temperature": 0, "modalities": ["text"]}
        if max_tokens is not None:
            asked["max_tokens"] = max_tokens
        try:
            said = self._post("/chat/completions", asked)["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError) as error:
            raise EvalError(f"{self.address} answers in another form than OpenAI's: {error!r}") from error
        return str(said or "").strip()

    def calls(
        self, audio: Audio, functions: list[dict[str, Any]], run: Callable[[str, dict[str, Any]], str], max_tokens: int
    ) -> tuple[str, Calls]:
        """See `Calling.calls`.

        Raises:
            EvalError: nobody answers, or not in OpenAI's form.
        """
        sound = {"data": base64.b64encode(as_wav(audio)).decode(), "format": "wav"}
        messages: list[dict[str, Any]] = [{"role": "user", "content": [{"type": "input_audio", "input_audio": sound}]}]
        made: Calls = []
        for _ in range(CALL_ROUNDS):
            asked = {"model": self.model, "messages": messages, "temperature": 0, "tools": functions}
            try:
                said = self._post("/chat/completions", asked | {"max_tokens": max_tokens})["choices"][0]["message"]
                messages.append(said)
                if not said.get("tool_calls"):
                    break
                for call in said["tool_calls"]:
                    name, args = call["function"]["name"], json.loads(call["function"]["arguments"] or "{}")
                    made.append({"function": name, "args": args})
                    messages.append({"role": "tool", "tool_call_id": call["id"], "content": run(name, args)})
            except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
                raise EvalError(f"{self.address} answers in another form than OpenAI's: {error!r}") from error
        return str(messages[-1].get("content") or "").strip() if messages[-1]["role"] == "assistant" else "", made

    def transcribe(self, audio: Audio, language: str = "en", translate: bool = False) -> str:
        """See `System.transcribe`: asked for in words, as speech models are."""
        how = "Translate what is said into English." if translate else "Write down what is said, word by word."
        return self.answer(f"{how} Answer with that alone.", audio)

    def _post(self, path: str, content: dict[str, Any]) -> Any:
        head = {"Content-Type": "application/json", "Authorization": f"Bearer {self.key}"}
        asked = urllib.request.Request(self.address + path, json.dumps(content).encode(), head)
        try:
            with urllib.request.urlopen(asked, timeout=ENDPOINT_SECONDS) as reply:
                return json.loads(reply.read())
        except urllib.error.HTTPError as error:
            raise EvalError(
                f"{self.address}{path}: {error.code}, {error.read()[:300].decode(errors='replace')}"
            ) from error
        except (OSError, ValueError) as error:
            raise EvalError(f"{self.address}{path} can't be asked: {error}. Is it running?") from error


class TransformersSystem:
    """An audio model of `transformers`, from a folder with its processor: Qwen2-Audio, Qwen2.5-Omni, Voxtral, ...

    Args:
        folder: of the model.

    Raises:
        ModelError: it can't be opened.
    """

    def __init__(self, folder: Path) -> None:
        import transformers

        self.name = folder.name
        try:
            kind = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type", "")
            opener = getattr(transformers, "AutoModelForMultimodalLM", None) or transformers.AutoModelForImageTextToText
            self.processor = transformers.AutoProcessor.from_pretrained(folder)
            try:
                self.model = opener.from_pretrained(folder, dtype="auto").eval()
            except ValueError:  # those that stand in no list of transformers' own
                names = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("architectures") or [kind]
                self.model = getattr(transformers, names[0]).from_pretrained(folder, dtype="auto").eval()
        except Exception as error:  # whatever it raises
            raise ModelError(f"transformers can't open {folder} as a model that hears: {error}") from error

    def answer(self, prompt: str, audio: Audio | None = None, max_tokens: int | None = None) -> str:
        """See `System.answer`."""
        import torch

        content: list[dict[str, Any]] = []
        sounds = []
        if audio is not None:
            sounds = [audio.mono().resample(RATE).samples.flatten().numpy()]
            content.append({"type": "audio", "audio": sounds[0]})
        content += [{"type": "text", "text": prompt}] if prompt else []
        chat = [{"role": "user", "content": content}]
        text = self.processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        given = {"audio": sounds, "sampling_rate": RATE} if sounds else {}
        inputs = self.processor(text=text, return_tensors="pt", **given)
        with torch.inference_mode():
            said = self.model.generate(**inputs, max_new_tokens=max_tokens or 256, do_sample=False)
        new = said[:, inputs["input_ids"].shape[1] :]
        return str(self.processor.batch_decode(new, skip_special_tokens=True)[0]).strip()

    def transcribe(self, audio: Audio, language: str = "en", translate: bool = False) -> str:
        """See `System.transcribe`."""
        how = "Translate the speech into English." if translate else "Transcribe the speech."
        return self.answer(how, audio)


def as_wav(audio: Audio) -> bytes:
    """A sound as a wav file of 16 kHz."""
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, audio.mono().resample(RATE).samples.flatten().numpy(), RATE, format="WAV", subtype="PCM_16")
    return file.getvalue()
