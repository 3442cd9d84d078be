"""Lines that a person types: edited with the arrow keys and called back with the up key, where Python has readline."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

MAX_LINES = 1000  # that are kept from one conversation to the next
PROMPT = "> "


@contextlib.contextmanager
def editing(commands: Sequence[str], history: Path | None = None) -> Iterator[None]:
    """While it lasts, `read_line` edits lines, completes commands with Tab, and calls earlier lines back.

    Args:
        commands: such as "/help".
        history: the file of earlier lines; by default the user's own.
    """
    if not _at_a_terminal():
        yield
        return
    try:
        import readline
    except ImportError:  # Windows
        yield
        return
    history = history or _history()
    with contextlib.suppress(OSError):  # there is none yet
        readline.read_history_file(history)
    readline.set_history_length(MAX_LINES)
    readline.set_completer_delims(" ")
    readline.set_completer(
        lambda text, at: next(iter([each for each in commands if text and each.startswith(text)][at:]), None)
    )
    readline.parse_and_bind("tab: complete")
    try:
        yield
    finally:
        readline.set_completer(None)
        with contextlib.suppress(OSError):  # a home that can't be written
            history.parent.mkdir(parents=True, exist_ok=True)
            readline.write_history_file(history)


def read_line() -> str | None:
    """The next typed line without its ends' spaces, or None at the end of the input."""
    if _at_a_terminal():
        # What commands print goes elsewhere; but lines are edited at the real terminal alone.
        with contextlib.redirect_stdout(sys.__stdout__):
            try:
                return input(PROMPT).strip()
            except EOFError:
                return None
    if sys.stdin.isatty():
        print(PROMPT, end="", file=sys.stderr, flush=True)
    line = sys.stdin.readline()
    return line.strip() if line else None


def _at_a_terminal() -> bool:
    return sys.stdin is sys.__stdin__ and sys.stdin.isatty() and bool(sys.__stdout__) and sys.__stdout__.isatty()


def _history() -> Path:
    from platformdirs import user_state_path

    return user_state_path("antiphon") / "chat-history"
