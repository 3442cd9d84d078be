"""What several commands share: options, where results go, how a model is loaded."""

from __future__ import annotations

import contextlib
import gc
import mimetypes
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from antiphon.errors import ConfigError
from antiphon.evals import report

if TYPE_CHECKING:
    from antiphon.audio.places import Named

Model = Annotated[str, typer.Option("--model", "-m", help="A preset, a folder or a hub id.")]
ModelThatFits = Annotated[
    str | None,
    typer.Option(
        "--model", "-m", help="A preset, a folder or a hub id. Without one: base, or small where memory is short."
    ),
]
Parts = Annotated[
    list[str] | None,
    typer.Option(
        "--part",
        help="Replace a part: ROLE=FOLDER or ROLE=HUB-ID, e.g. talker=./mine; thinker=FILE.gguf, too. May be repeated.",
    ),
]
Device = Annotated[
    str,
    typer.Option(help='Where the language model, or all of a duplex model, computes: "cpu" or "cuda".'),
]
Dtype = Annotated[
    str | None,
    typer.Option(
        help="Of its weights: bfloat16, float16 or float32. Without one they stay as they are, on a GPU bfloat16."
    ),
]
Seed = Annotated[int, typer.Option(help="The same seed gives the same wav.")]
Temperature = Annotated[float | None, typer.Option(help="Of the voice: 0 is always the likeliest sound.", min=0.0)]
TopK = Annotated[int | None, typer.Option("--top-k", help="Of the voice: choose among this many sounds.", min=1)]
Voice = Annotated[str | None, typer.Option(help="Of a model that has several.", show_default=False)]
Picture = Annotated[
    list[Path] | None, typer.Option(help="A picture, a video or a sound that the question is about. May be repeated.")
]
Json = Annotated[Path | None, typer.Option("--json", help="Also write the result to this file, as JSON.")]
Mcp = Annotated[
    list[str] | None,
    typer.Option("--mcp", help="Tools that answers may call: an MCP server's command or URL. May be repeated."),
]
Play = Annotated[bool, typer.Option("--play", help="Play the answer through the speaker.")]


@contextlib.contextmanager
def results() -> Iterator[TextIO]:
    """Gives the real stdout, and sends whatever anyone else prints meanwhile to stderr."""
    out = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        yield out


def progress(message: str) -> None:
    """Tells the user what is being done, on stderr."""
    print(message, file=sys.stderr, flush=True)


def counted(recordings: Sequence[Named]) -> Iterator[Named]:
    """Recordings, each told when it comes, with how long the rest takes; a single one isn't told."""
    start = time.perf_counter()
    for at, each in enumerate(recordings):
        if len(recordings) > 1:
            left = (time.perf_counter() - start) / at * (len(recordings) - at) if at else 0.0
            clock = f"{left / 60:.0f} min" if left >= 90 else f"{left:.0f} s"
            progress(f"{each.place} ({at + 1} of {len(recordings)}{f', about {clock} left' if at else ''})")
        yield each


def overrides(parts: list[str] | None) -> dict[str, str]:
    """["thinker=./mine"] -> {"thinker": "./mine"}."""
    from antiphon.hub import role_of

    found = {}
    for part in parts or []:
        role, mark, source = part.partition("=")
        if not (role and mark and source):
            raise ConfigError(f"--part takes ROLE=FOLDER or ROLE=HUB-ID, not {part!r}.")
        found[role_of(role)] = source
    return found


def load_model(
    name: str | None, parts: list[str] | None, device: str = "cpu", dtype: str | None = None
) -> tuple[Any, float]:
    """Loads a model, and tells and gives how many seconds that took, PyTorch's import included if it's the first use.
    None is the preset that the memory allows.

    What is loaded stays: the garbage collector, which would look at it over and over, waits meanwhile and looks past it
    from then on.
    """
    import antiphon
    from antiphon import hub

    name = name or hub.default_preset()
    progress(f"Loading {name} ...")
    start = time.perf_counter()
    gc.disable()
    try:
        model = antiphon.load(name, device=device, dtype=dtype, **overrides(parts))
    finally:
        gc.enable()
    gc.freeze()
    seconds = time.perf_counter() - start
    progress(f"Ready after {seconds:.1f} s.")
    return model, seconds


@contextlib.contextmanager
def mcp_tools(places: list[str] | None) -> Iterator[list[Any]]:
    """The tools of these MCP servers, while they run."""
    with contextlib.ExitStack() as servers:
        tools: list[Any] = []
        for place in places or []:
            from antiphon.dialogue.mcp import McpServer

            tools += servers.enter_context(McpServer(place)).tools
        if places:
            progress(f"Tools: {', '.join(tool.name for tool in tools) or 'none'}.")
        yield tools


def noted(reply: Any) -> str:
    """What else was heard than words, as far as it is noteworthy, behind a space; "" if nothing."""
    if reply.scene is None:
        return ""
    from antiphon.models.scene.notes import noted

    return f" {found}" if (found := noted(reply.scene)) else ""


def seen(path: str | Path) -> dict[str, str]:
    """A picture, a video or a sound as a content of a message.

    Raises:
        DataError: it is no file that can be seen.
    """
    kind = (mimetypes.guess_type(path)[0] or "").partition("/")[0]
    if kind == "audio":
        return {"type": "audio", "audio": str(path)}
    if kind == "video":
        from antiphon.encoders.vision.video import check_video

        check_video(path)
        return {"type": "video", "video": str(path)}
    from antiphon.encoders.vision.pictures import check_picture

    check_picture(path)
    return {"type": "image", "image": str(path)}


def tell_calls(reply: Any) -> None:
    """What an answer called, and what came of it, on stderr."""
    for one in reply.calls:
        progress(f"called {one.call.name}({one.call.arguments}): {one.text}")


def check_devices(wanted: bool) -> None:
    """Tells at once, before a model is loaded, that a microphone or speaker that is wanted isn't supported."""
    if wanted:
        from antiphon.audio.devices import check_devices

        check_devices()


def sampling(temperature: float | None, top_k: int | None) -> dict[str, float | int]:
    """The sampling options that were given; the model's own defaults hold for the others."""
    given = {"temperature": temperature, "top_k": top_k}
    return {name: value for name, value in given.items() if value is not None}


def write_json(path: Path | None, content: dict[str, Any]) -> None:
    """Writes the machine-readable result, if one was asked for."""
    if path is not None:
        report.write_json(path, content)


def describe_timings(timings: dict[str, float]) -> str:
    """{"first_audio": 0.41} -> "first audio 0.41 s"."""
    return ", ".join(f"{name.replace('_', ' ')} {seconds:.2f} s" for name, seconds in timings.items())
