"""`antiphon duplex user.wav -o both.wav`: a conversation in which both may speak at once, with a recording or live."""

from __future__ import annotations

from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from antiphon.cli.common import Json, Model, Parts, load_model, progress, results, write_json
from antiphon.errors import AntiphonError, AudioError, ConfigError

if TYPE_CHECKING:
    from antiphon.dialogue.duplex.replay import Replay


class Mode(StrEnum):
    FULL = "full-duplex"
    HALF = "half-duplex"
    SIMPLEX = "simplex"


class Direction(StrEnum):
    LISTEN = "listen"
    SPEAK = "speak"


def duplex(
    recording: Annotated[
        Path | None, typer.Argument(help="A recording of the user. Without one: the microphone and the speaker.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Both channels, left the model: .wav or .flac. Beside it: .json, .txt, .png."),
    ] = None,
    model: Model = "mini-duplex",
    part: Parts = None,
    mode: Annotated[Mode, typer.Option(help="Who may speak when.")] = Mode.FULL,
    direction: Annotated[Direction, typer.Option(help="Of simplex mode: what the model does.")] = Direction.LISTEN,
    prompt: Annotated[str, typer.Option(help="A text that the model has in mind when it starts.")] = "",
    voice: Annotated[Path | None, typer.Option(help="A recording that the model takes for its own past.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed and recording give the same conversation.")] = 0,
    after: Annotated[float, typer.Option(help="Seconds of silence after the recording.", min=0.0)] = 4.0,
    realtime: Annotated[bool, typer.Option("--realtime", help="Take as long as the recording lasts.")] = False,
    hear: Annotated[bool, typer.Option("--hear", help="Also write down what the user says.")] = False,
    echo: Annotated[
        bool, typer.Option("--echo", help="Of a model that takes turns: the microphone hears the loudspeaker.")
    ] = False,
    json: Json = None,
) -> None:
    """Talk while listening: play a recording to the model, or use the microphone."""
    with results() as stdout:
        from antiphon.audio import io
        from antiphon.dialogue.events import Sampling
        from antiphon.dialogue.turn_ends import endpointer
        from antiphon.model import DuplexModel

        if out is not None or recording is not None:
            out = out or Path("duplex.wav")
            io.check_writable_name(out)
        audio = io.load(recording) if recording is not None else None
        spoken = io.load(voice) if voice is not None else None
        if audio is None:
            _check_devices()
        loaded, _ = load_model(model, part)
        how: dict[str, Any] = {"mode": mode.value}
        if isinstance(loaded, DuplexModel):
            ends = endpointer() if mode is Mode.HALF else None
            how |= {"direction": direction.value, "start": loaded.prompt(prompt, spoken, seed), "endpointer": ends}
            how |= {"hear": hear} if audio is None else {}
        elif mode is not Mode.FULL or prompt or spoken is not None or direction is not Direction.LISTEN:
            raise ConfigError(f"{model} takes turns: here it is in full duplex without a prompt. See antiphon chat.")
        else:
            how |= {"sampling": Sampling(seed), "echo": echo}
        if audio is None:
            replay = _live(loaded, how, stdout)
        else:
            from antiphon.dialogue.duplex.replay import replay_recording

            progress(f"Playing {recording} to the model ({mode.value}) ...")
            tell = (lambda event: _print(event, stdout)) if realtime else None
            recognizer = loaded.recognizer if hear and isinstance(loaded, DuplexModel) else None
            with ExitStack() as stack:
                if isinstance(loaded, DuplexModel):
                    stream = loaded.stream(**how)
                else:
                    stream = stack.enter_context(loaded.session(**how, pace=None if realtime else 1.0))
                replay = replay_recording(stream, audio, after, recognizer, realtime, tell)
            if not realtime and (transcript := replay.transcript()):
                print(transcript, file=stdout)
        if out is not None:
            _write(replay, out, recording.name if recording is not None else "microphone", stdout)
        write_json(json, {"recording": str(recording or ""), "seed": seed, "mode": mode.value, **_summary(replay, out)})


def _check_devices() -> None:
    """Tells at once, before a model is loaded, that there is nothing to talk with."""
    from antiphon.audio.devices import microphone, speaker

    try:
        with microphone(24000), speaker(24000):
            pass
    except AudioError as error:
        raise AudioError(f"{error} Or play a recording to the model: antiphon duplex USER.wav") from error


def _live(model: Any, how: dict[str, Any], stdout: TextIO) -> Replay:
    """Talks until Ctrl-C."""
    import torch

    from antiphon.audio.devices import microphone, speaker
    from antiphon.dialogue.duplex.replay import collect
    from antiphon.dialogue.events import AudioEvent

    events, heard = [], []
    with model.session(**how) as session:
        rate = session.sample_rate
        with microphone(rate) as frames, speaker(rate) as write:
            progress("Speak. Ctrl-C ends.")
            try:
                for frame in frames:
                    heard.append(frame)
                    for event in session.step(frame):
                        events.append(event)
                        _print(event, stdout)
                        if isinstance(event, AudioEvent):
                            write(event.audio.samples)
            except KeyboardInterrupt:
                progress("")
    return collect(torch.cat(heard) if heard else torch.zeros(0), events, session.frame_samples, rate)


def _print(event: Any, stdout: TextIO) -> None:
    """The words of both, as they come."""
    from antiphon.dialogue.events import HeardEvent, LostEvent, SpeakingEvent, TextEvent

    if isinstance(event, TextEvent):
        print(event.text, end="", file=stdout, flush=True)
    elif isinstance(event, SpeakingEvent) and not event.speaking:
        print(file=stdout, flush=True)
    elif isinstance(event, HeardEvent):
        print(f"\n[you: {event.heard}]", file=stdout, flush=True)
    elif isinstance(event, LostEvent):
        progress(f"{event.frames} frames lost at {event.time:.1f} s ({event.reason})")


def _write(replay: Replay, out: Path, title: str, stdout: TextIO) -> None:
    """The sound, and beside it the words for programs and for people, and the picture."""
    from antiphon.dialogue.duplex.replay import spread_words
    from antiphon.errors import EvalError
    from antiphon.evals.plots import draw_timeline

    print(f"wav:        {replay.stereo.save(out).absolute()}", file=stdout)
    write_json(out.with_suffix(".json"), replay.notes())
    try:
        out.with_suffix(".txt").write_text(replay.transcript() + "\n", encoding="utf-8")
    except OSError as error:
        raise AntiphonError(f"{out.with_suffix('.txt')} could not be written: {error.strerror}.") from error
    print(f"transcript: {out.with_suffix('.txt').absolute()}, .json", file=stdout)
    words = [*replay.words, *(word for event in replay.heard for word in spread_words(event))]
    sounds = {"model": replay.model.numpy(), "user": replay.user.numpy()}
    try:
        picture = draw_timeline(out.with_suffix(".png"), replay.spans, replay.seconds, words, sounds, title)
        print(f"timeline:   {picture.absolute()}", file=stdout)
    except EvalError as error:
        progress(f"No timeline: {error}")


def _summary(replay: Replay, out: Path | None) -> dict[str, Any]:
    """What `--json` has."""
    times = sorted(1000 * seconds for seconds in replay.work)
    found: dict[str, Any] = {"wav": str(out.absolute()) if out else "", "seconds": replay.seconds, **replay.notes()}
    if times:
        found["frame_ms"] = {"p50": times[len(times) // 2], "p95": times[int(len(times) * 0.95)]}
    return found
