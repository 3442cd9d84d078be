"""Where what ships with the package stands: inside an installed package, or at the top of a checkout."""

from __future__ import annotations

from pathlib import Path


def shipped(name: str) -> Path:
    """The place of a shipped file or folder, e.g. "weights/mini" or "examples/question.wav"; it need not be there."""
    package = Path(__file__).resolve().parent.parent
    inside = package / name
    return inside if inside.exists() else package.parent / name
