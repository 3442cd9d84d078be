"""`antiphon chat`: a conversation in the terminal, turns typed or spoken, answers in text and speech."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Annotated, Any

import typer

from antiphon.cli.common import (
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
from antiphon.errors import AntiphonError, AudioError

HELP = (
    "Type a turn and press Enter. @file.wav speaks a recorded turn. /picture FILE gives a picture, a video or a sound "
    "with the next turn, to a model that sees. /help says this again, /quit (or Ctrl-D) ends."
)
MIC_HELP = " Enter alone records from the microphone; Enter again ends the turn."


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
    json: Json = None,
) -> None:
    """Talk in turns: type, or speak into the microphone."""
    with results() as stdout, mcp_tools(mcp) as tools:
        check_devices(mic or play)
        loaded, _ = load_model(model, part)
        how: dict[str, Any] = {"tools": tools} if tools else {}
        if voice is not None:
            from antiphon.dialogue.events import Sampling

            how["sampling"] = Sampling(voice=voice)
        conversation = loaded.chat(text_only=text_only, **how)
        help_text = HELP + (MIC_HELP if mic else "")
        progress(help_text)
        turns: list[dict[str, Any]] = []
        shown: list[dict[str, str]] = []  # with the next turn
        try:
            while (line := _read_line()) is not None and line not in ("/quit", "/exit"):
                if not line and not mic:
                    continue
                if line.split(maxsplit=1)[:1] == ["/picture"]:
                    _show(conversation, line, shown)
                    continue
                if line.startswith("/"):
                    progress(help_text if line == "/help" else f"There is no command {line.split()[0]}. {help_text}")
                    continue
                try:
                    reply = _turn(conversation, line, shown)
                except AntiphonError as error:  # a turn that fails does not end the conversation
                    progress(f"antiphon: {error}")
                    continue
                shown.clear()
                tell_calls(reply)
                print(reply.text, file=stdout, flush=True)
                wav = _keep(reply, out, len(turns) + 1)
                turns.append({"heard": reply.heard, "answered": reply.text, "wav": wav, "timings": reply.timings})
                if play and reply.audio is not None:
                    from antiphon.audio.devices import play as play_audio

                    play_audio(reply.audio)
        finally:
            write_json(json, {"turns": turns})


def _read_line() -> str | None:
    """The next typed line without its ends' spaces, or None at the end of the input."""
    if sys.stdin.isatty():
        print("> ", end="", file=sys.stderr, flush=True)
    line = sys.stdin.readline()
    return line.strip() if line else None


def _show(conversation: Any, line: str, shown: list[dict[str, str]]) -> None:
    """Takes a picture for the next turn."""
    try:
        conversation.check_sees()
        shown.append(seen(line.removeprefix("/picture").strip()))
        progress(f"{len(shown)} to be seen with the next turn.")
    except AntiphonError as error:
        progress(f"antiphon: {error}")


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
