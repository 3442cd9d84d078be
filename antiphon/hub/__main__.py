"""`python -m antiphon.hub mini`: fetch every part of a preset now, so that later runs need no network."""

from __future__ import annotations

import sys

from antiphon.errors import AntiphonError
from antiphon.hub.folders import folder
from antiphon.hub.presets import preset


def main(names: list[str]) -> int:
    """Fetches the presets' parts; prints their folders. Returns the exit code."""
    try:
        for name in names or ["mini"]:
            for part in dict.fromkeys(preset(name).parts.values()):
                print(f"{part.name}: {folder(part, name)}")
    except AntiphonError as error:
        print(f"antiphon: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
