"""A model behind an endpoint of OpenAI's Realtime (WebSocket), ours or another's, as one that can be measured.

peer = RealtimeSystem("ws://127.0.0.1:8000/v1/realtime#mini")
peer.answer("", sound)                        # a question that is heard, answered in writing
session = peer.session("half-duplex")         # live, in real time: for the duplex row
"""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import torch
from torch import Tensor

from antiphon.audio.io import Audio
from antiphon.audio.pcm import Decoder, pcm16
from antiphon.dialogue.events import AudioEvent, EndEvent, Event, TextEvent
from antiphon.errors import EvalError
from antiphon.evals.tables.systems.system import CALL_ROUNDS, ENDPOINT_SECONDS, Calls

RATE = 24_000  # Hz of the protocol's PCM
PIECE = RATE  # samples that are sent at once
FORMAT = {"type": "audio/pcm", "rate": RATE}


class RealtimeSystem:
    """A model behind a Realtime endpoint.

    Args:
        address: "ws://HOST/v1/realtime"; behind a #, the model's name there.
        key: that it asks for; None is that of the environment's OPENAI_API_KEY.
    """

    def __init__(self, address: str, key: str | None = None) -> None:
        place, _, model = address.partition("#")
        self.address, self.name = f"{place}?model={model}" if model else place, address
        self.key = key or os.environ.get("OPENAI_API_KEY", "none")

    def answer(self, prompt: str, audio: Audio | None = None, max_tokens: int | None = None) -> str:
        """See `antiphon.evals.tables.systems.system.System.answer`.

        Raises:
            EvalError: nobody answers, or not as the protocol says.
        """
        with self._asked(prompt, audio, max_tokens) as line:
            line.send("response.create")
            return _text(line.done())

    def transcribe(self, audio: Audio, language: str = "en", translate: bool = False) -> str:
        """See `System.transcribe`: asked for in words."""
        how = "Translate what is said into English." if translate else "Write down what is said, word by word."
        return self.answer(f"{how} Answer with that alone.", audio)

    def calls(
        self, audio: Audio, functions: list[dict[str, Any]], run: Callable[[str, dict[str, Any]], str], max_tokens: int
    ) -> tuple[str, Calls]:
        """See `antiphon.evals.tables.systems.system.Calling.calls`.

        Raises:
            EvalError: nobody answers, or not as the protocol says.
        """
        made: Calls = []
        tools = [{"type": "function", **each["function"]} for each in functions]
        with self._asked("", audio, max_tokens, tools=tools) as line:
            for _ in range(CALL_ROUNDS):
                line.send("response.create")
                response = line.done()
                asked = [item for item in response["output"] if item["type"] == "function_call"]
                if not asked:
                    return _text(response), made
                for item in asked:
                    try:
                        arguments = json.loads(item["arguments"] or "{}")
                    except ValueError as error:
                        raise EvalError(
                            f"{self.name} calls {item['name']} with no JSON: {item['arguments']}"
                        ) from error
                    made.append({"function": item["name"], "args": arguments})
                    told = {"type": "function_call_output", "call_id": item["call_id"]}
                    line.send("conversation.item.create", item={**told, "output": run(item["name"], arguments)})
            return "", made

    def session(self, mode: str = "half-duplex", endpointer: Any = None) -> RealtimeTalk:
        """A live conversation; the endpoint finds the ends of turns by itself.

        Raises:
            EvalError: nobody is there.
        """
        return RealtimeTalk(_Line(self))

    @contextmanager
    def _asked(
        self, prompt: str, audio: Audio | None, max_tokens: int | None, tools: list[dict[str, Any]] | None = None
    ) -> Iterator[_Line]:
        """A conversation in which something was said or written, and isn't answered yet."""
        with closing(_Line(self)) as line:
            how: dict[str, Any] = {"type": "realtime", "output_modalities": ["text"]}
            how["audio"] = {"input": {"format": FORMAT, "turn_detection": None}}
            if tools is not None:
                how["tools"] = tools
            if max_tokens is not None:
                how["max_output_tokens"] = max_tokens
            line.send("session.update", session=how)
            if audio is not None:
                pcm = pcm16(audio.mono().resample(RATE).samples.flatten().numpy())
                for start in range(0, len(pcm), 2 * PIECE):
                    line.append(pcm[start : start + 2 * PIECE])
                line.send("input_audio_buffer.commit")
            if prompt:
                content = [{"type": "input_text", "text": prompt}]
                line.send("conversation.item.create", item={"type": "message", "role": "user", "content": content})
            yield line


class RealtimeTalk:
    """A live conversation over a Realtime endpoint: frames in, events out."""

    sample_rate, frame_samples = RATE, RATE * 2 // 25

    def __init__(self, line: _Line) -> None:
        self.line, self.heard = line, Decoder("audio/pcm")
        turns = {"type": "server_vad"}
        spoken = {"input": {"format": FORMAT, "turn_detection": turns}, "output": {"format": FORMAT}}
        line.send("session.update", session={"type": "realtime", "output_modalities": ["audio"], "audio": spoken})

    def step(self, frame: Tensor) -> list[Event]:
        """Sends 80 ms of the user's; gives what has come."""
        self.line.append(pcm16(frame.numpy()))
        found: list[Event] = []
        for event in self.line.waiting():
            if event["type"] == "response.output_audio.delta":
                found.append(
                    AudioEvent(Audio(torch.from_numpy(self.heard.step(base64.b64decode(event["delta"]))), RATE))
                )
            elif event["type"] == "response.output_audio_transcript.delta":
                found.append(TextEvent(event["delta"]))
            elif event["type"] == "input_audio_buffer.speech_started":
                found.append(EndEvent("", interrupted=True))  # what is still to be played is not, as clients do
            elif event["type"] == "response.done":
                found.append(EndEvent(""))
        return found

    def close(self) -> None:
        """Ends it."""
        self.line.close()


class _Line:
    """A connection to a Realtime endpoint.

    Raises:
        EvalError: nobody is there, or the endpoint refuses.
    """

    def __init__(self, system: RealtimeSystem) -> None:
        from websockets.exceptions import WebSocketException
        from websockets.sync.client import connect

        self.name, self._failed = system.name, (OSError, WebSocketException)
        try:
            head = {"Authorization": f"Bearer {system.key}"}
            self._socket = connect(system.address, additional_headers=head, max_size=None, open_timeout=30)
        except (OSError, WebSocketException, TimeoutError) as error:
            raise EvalError(f"{self.name} can't be reached: {error}. Is it running?") from error
        self.receive("session.created")

    def send(self, kind: str, **fields: Any) -> None:
        """An event to the endpoint."""
        try:
            self._socket.send(json.dumps({"type": kind, **fields}))
        except self._failed as error:
            raise EvalError(f"{self.name} hung up: {error}") from error

    def append(self, pcm: bytes) -> None:
        """Sound of the user."""
        self.send("input_audio_buffer.append", audio=base64.b64encode(pcm).decode())

    def receive(self, kind: str) -> dict[str, Any]:
        """The next event of a kind.

        Raises:
            EvalError: an error comes first, or nothing in time.
        """
        deadline = time.monotonic() + ENDPOINT_SECONDS
        while True:
            event = self._next(deadline - time.monotonic())
            if event is None:
                raise EvalError(f"{self.name} gives no {kind} within {ENDPOINT_SECONDS} s.")
            if event["type"] == kind:
                return event

    def done(self) -> dict[str, Any]:
        """The answer that was asked for.

        Raises:
            EvalError: it failed.
        """
        response = self.receive("response.done")["response"]
        if response["status"] not in ("completed", "incomplete"):
            raise EvalError(f"{self.name} gives no answer: {response['status']} {response.get('status_details')}")
        return response

    def waiting(self) -> Iterator[dict[str, Any]]:
        """What has come by now."""
        while (event := self._next(0)) is not None:
            yield event

    def _next(self, seconds: float) -> dict[str, Any] | None:
        try:
            event = json.loads(self._socket.recv(max(0.0, seconds)))
        except TimeoutError:
            return None
        except (*self._failed, ValueError) as error:
            raise EvalError(f"{self.name} hung up: {error}") from error
        if event.get("type") == "error":
            raise EvalError(f"{self.name}: {event.get('error', {}).get('message', event)}")
        return event

    def close(self) -> None:
        """Hangs up."""
        self._socket.close()


def _text(response: dict[str, Any]) -> str:
    """What an answer says, written or spoken."""
    parts = [part for item in response["output"] for part in item.get("content") or ()]
    return " ".join(str(part.get("text") or part.get("transcript") or "") for part in parts).strip()
