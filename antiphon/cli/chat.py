"""`antiphon chat`: a conversation in the terminal, turns typed or spoken, answers in text and speech."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from antiphon.cli.common import (
    Device,
    Dtype,
    Json,
    Mcp,
    ModelThatFits,
    Parts,
    Voice,
    check_devices,
    load_model,
    mcp_tools,
    noted,
    progress,
    results,
    seen,
    tell_calls,
    write_json,
)
from antiphon.cli.typed import editing, read_line
from antiphon.errors import AntiphonError, AudioError, ConfigError

HELP = """Type a turn and press Enter. @file.wav speaks a recorded turn.
  /picture FILE   gives a picture, a video or a sound with the next turn, to a model that sees
  /save FILE      writes down the conversation (.txt, .json), or the last answer's sound (.wav, .flac)
  /voice NAME     answers in another voice, where the model has several; without a name, says which there are
  /forget         begins anew
  /help           says this again
  /quit           ends, as Ctrl-D does"""
COMMANDS = ("/picture", "/save", "/voice", "/forget", "/help", "/quit", "/exit")
MIC_HELP = "Enter alone records from the microphone; Enter again ends the turn."


def chat(
    model: ModelThatFits = None,
    part: Parts = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Keep every spoken answer in this folder, as turn-1.wav, ...")
    ] = None,
    mic: Annotated[bool, typer.Option("--mic", help="Speak: Enter records from the microphone.")] = False,
    play: Annotated[bool, typer.Option("--play", help="Play the answers through the speaker.")] = False,
    text_only: Annotated[bool, typer.Option("--text-only", help="No voice: the plain language model.")] = False,
    voice: Voice = None,
    mcp: Mcp = None,
    device: Device = "cpu",
    dtype: Dtype = None,
    json: Json = None,
) -> None:
    """Talk in turns: type, or speak into the microphone."""
    with results() as stdout, mcp_tools(mcp) as tools:
        check_devices(mic or play)
        loaded, _ = load_model(model, part, device, dtype)
        how: dict[str, Any] = {"tools": tools} if tools else {}
        if voice is not None:
            from antiphon.dialogue.events import Sampling

            how["sampling"] = Sampling(voice=voice)
        conversation = loaded.chat(text_only=text_only, **how)
        help_text = HELP + (f"\n{MIC_HELP}" if mic else "")
        progress(help_text)
        talk = _TerminalChat(conversation, getattr(loaded, "backend", None), help_text)
        try:
            with editing(COMMANDS):
                while (line := read_line()) is not None and line not in ("/quit", "/exit"):
                    if line.startswith("/"):
                        talk.command(line)
                    elif line or mic:
                        talk.turn(line, stdout, out, play)
        finally:
            write_json(json, {"turns": talk.turns})


class _TerminalChat:
    """A conversation while it goes on.

    Attributes:
        turns: so far, for programs; `since` one of them, of a new conversation.
        shown: pictures that go with the next turn.
        last: the last answer.
    """

    def __init__(self, conversation: Any, backend: Any, help_text: str):
        self.conversation, self.backend, self.help_text = conversation, backend, help_text
        self.turns: list[dict[str, Any]] = []
        self.since = 0
        self.shown: list[dict[str, str]] = []
        self.last: Any = None

    def turn(self, line: str, stdout: TextIO, out: Path | None, play: bool) -> None:
        """A turn of the user, and the answer."""
        try:
            reply = _turn(self.conversation, line, self.shown)
        except AntiphonError as error:  # a turn that fails does not end the conversation
            progress(f"antiphon: {error}")
            return
        self.shown.clear()
        tell_calls(reply)
        print(reply.text, file=stdout, flush=True)
        wav = _keep(reply, out, len(self.turns) + 1)
        self.turns.append({"heard": reply.heard, "answered": reply.text, "wav": wav, "timings": reply.timings})
        self.last = reply
        if play and reply.audio is not None:
            from antiphon.audio.devices import play as play_audio

            play_audio(reply.audio)

    def command(self, line: str) -> None:
        """What a line that begins with a slash asks for."""
        name, _, rest = line.partition(" ")
        does = {
            "/picture": self._show, "/save": self._save, "/voice": self._voice, "/forget": self._forget,
            "/help": lambda _: self.help_text,
        }.get(name)  # fmt: skip
        if does is None:
            progress(f"There is no command {name}. {self.help_text}")
            return
        try:
            progress(does(rest.strip()))
        except (AntiphonError, OSError) as error:
            progress(f"antiphon: {error}")

    def _show(self, path: str) -> str:
        self.conversation.check_sees()
        self.shown.append(seen(path))
        return f"{len(self.shown)} to be seen with the next turn."

    def _save(self, path: str) -> str:
        turns = self.turns[self.since :]
        if not turns:
            raise ConfigError("There is nothing to save yet: nothing was answered.")
        file, ending = Path(path), Path(path).suffix.lower()
        if ending in (".wav", ".flac"):
            if self.last.audio is None:
                raise ConfigError("The last answer was written, not spoken: save it as .txt or .json.")
            return f"Saved {self.last.audio.save(file)}."
        if ending not in (".txt", ".json"):
            raise ConfigError("/save takes a file that ends in .txt, .json, .wav or .flac.")
        if ending == ".json":
            write_json(file, {"turns": turns})
        else:
            said = "".join(f"You: {turn['heard']}\nModel: {turn['answered']}\n\n" for turn in turns)
            file.write_text(said, encoding="utf-8")
        return f"Saved {file}."

    def _voice(self, name: str) -> str:
        there = ", ".join(self.backend.voices) if self.backend is not None else ""
        if not name:
            return f"There are: {there or 'none'}."
        self.conversation.speak_as(name)
        return f"It answers as {name} from here on."

    def _forget(self, _: str) -> str:
        self.conversation.forget()
        self.since, self.last = len(self.turns), None
        self.shown.clear()
        return "Forgotten: a new conversation."


def _turn(conversation: Any, line: str, shown: list[dict[str, str]]) -> Any:
    """A recording (@file), the microphone (an empty line) or typed words, with what is shown."""
    if line and not line.startswith("@"):
        return conversation.say_typed(line, shown)
    if line:
        from antiphon.audio import io

        audio = io.load(line[1:].strip(), sample_rate=16000)
    else:
        audio = _record()
    if audio.silent:
        raise AudioError("Nothing was heard: the recording is silent. Check the microphone.")
    reply = conversation.say_spoken(audio, shown)
    if not (reply.heard or reply.text):
        if found := noted(reply):
            raise AudioError(f"No words were heard, but{found}: ask about it.")
        raise AudioError("No words were heard. Try again, closer to the microphone.")
    if reply.heard:  # a model that hears by itself writes nothing down
        progress(f"heard: {reply.heard}{noted(reply)}")
    return reply


def _record() -> Any:
    from antiphon.audio.devices import record

    stop = threading.Event()
    progress("Recording; press Enter to end.")
    threading.Thread(target=lambda: (sys.stdin.readline(), stop.set()), daemon=True).start()
    return record(stop)


def _keep(reply: Any, folder: Path | None, number: int) -> str | None:
    if folder is None or reply.audio is None:
        return None
    return str(reply.audio.save(folder / f"turn-{number}.wav").absolute())
