"""Realtime sessions without a socket, for tests: a bench on which events go in and come out."""

from __future__ import annotations

import base64

import torch

from antiphon.audio.io import Audio
from antiphon.dialogue.backend import Hearing
from antiphon.dialogue.events import AudioEvent, SpeakingEvent, TextEvent
from antiphon.models.scene.reading import SceneNotes
from antiphon.models.scene.scene import Scene
from antiphon.serve.realtime.commands import Answer, Finish, Limits, ServedModel
from antiphon.serve.realtime.duplex_session import DuplexRealtimeSession
from antiphon.serve.realtime.items import messages
from antiphon.serve.realtime.session import RealtimeSession
from tests.dialogue.pretended import loud_turns
from tests.serve.scripted import Scripted


class Bench:
    """A session, and a backend that does its commands when told to."""

    def __init__(self, turns=loud_turns, sees: bool = False, **audio_input: object):
        limits = Limits(turn_seconds=10, vad="loudness", turns=turns, judges=True)
        self._begin(RealtimeSession(ServedModel("mini", ["heart"], sees=sees), limits, now=0.0))
        if audio_input:
            self.send("session.update", session={"type": "realtime", "audio": {"input": audio_input}})

    def _begin(self, session: RealtimeSession) -> None:
        self.session, self.now = session, 0.0
        self.events: list[dict] = []
        self.commands: list[object] = []
        self.model = Scripted()
        self.chat = self.model.chat()
        self.session.begin()
        self.drain()

    def drain(self) -> list[dict]:
        fresh = []
        for out in self.session.take():
            (fresh if isinstance(out, dict) else self.commands).append(out)
        self.events += fresh
        return fresh

    def send(self, kind: str, **fields: object) -> list[dict]:
        self.session.receive({"type": kind, **fields}, self.now)
        return self.drain()

    def append(self, sound: bytes) -> list[dict]:
        return self.send("input_audio_buffer.append", audio=base64.b64encode(sound).decode())

    def wanted(self, kind: type) -> list:
        found = [command for command in self.commands if isinstance(command, kind)]
        self.commands = [command for command in self.commands if not isinstance(command, kind)]
        return found

    def hear(
        self, text: str = "Hello there.", scene: Scene | None = None, notes: SceneNotes | None = None
    ) -> list[dict]:
        for finish in self.wanted(Finish):
            self.session.heard(finish.item_id, Hearing(text, scene=scene, notes=notes), None, self.now)
        return self.drain()

    def answer(self, frames: int = 2, end: bool = True, text: str = "Rome.") -> list[dict]:
        for command in self.wanted(Answer):
            answer = self.chat.answer(messages(command.turns), None, command.instructions, command.spoken)
            answer.text = text
            self.session.answer_begun(command.response_id, answer)
            self.session.answered(command.response_id, TextEvent(text), self.now)
            for _ in range(frames if command.spoken else 0):
                sound = AudioEvent(Audio(torch.full((1920,), 0.5), 24000))
                self.session.answered(command.response_id, sound, self.now)
            if end:
                for _ in answer.events():
                    pass
                self.session.answer_ended(command.response_id, None, self.now)
        return self.drain()


class DuplexBench(Bench):
    """A duplex model's session, whose model says what it is told to, 80 ms at a time."""

    def __init__(self, transcribes: bool = False):
        model = ServedModel("duplex", ["heart"], transcribes=transcribes)
        self._begin(DuplexRealtimeSession(model, Limits(vad="loudness"), 0.0))
        self.time = 0.0

    def frame(self, *events: object, level: float = 0.5) -> list[dict]:
        sound = AudioEvent(Audio(torch.full((1920,), level), 24000))
        self.session.frame([*events, sound], self.now)
        self.time += 0.08
        return self.drain()

    def speaks(self, yes: bool, since: float | None = None) -> list[dict]:
        return self.frame(SpeakingEvent(yes, self.time if since is None else since))


def kinds(events: list[dict]) -> list[str]:
    return [event["type"] for event in events]
