"""From the name of a part to its folder: shipped, fetched, the user's own, or a model hub's."""

from __future__ import annotations

from pathlib import Path

from antiphon.errors import HubError
from antiphon.hub.fetch import cached_folder, fetch
from antiphon.hub.presets import MINI, Part, Preset, preset, role_of
from antiphon.hub.shipped import shipped


def weights_dir(name: str = "mini") -> Path:
    """A folder of shipped parts: inside the installed package, or at the top of a checkout."""
    return shipped(f"weights/{name}")


def folder(part: Part | Path | str, of: Preset | str = MINI) -> Path:
    """The folder of a part, fetched and converted first if need be.

    Args:
        part: a `Part`; or a role or part name of the preset ("llm", "whisper-base"); or a folder; or a hub id
            ("organisation/name"). A folder that has the name of a part is given as "./llm".
        of: the preset whose names are meant.

    Returns:
        A folder with config.json and, for a part, model.safetensors.

    Raises:
        HubError: there is none, or it cannot be had.
    """
    of = preset(of) if isinstance(of, str) else of
    if isinstance(part, str):
        part = of.parts.get(role_of(part)) or next((each for each in of.parts.values() if each.name == part), part)
    if isinstance(part, Part):
        return _shipped(part) if part.shipped else fetch(part)
    path = Path(part).expanduser()
    if path.is_dir():
        return _checked(path)
    if isinstance(part, str) and _looks_like_hub_id(part):
        return _checked(_from_hub(part))
    raise HubError(
        f"{part}: there is no such folder, and it is no part of {of.name!r} (its parts: {', '.join(of.parts)}) nor a "
        "hub id (organisation/name)."
    )


def present(part: Part) -> Path | None:
    """The folder of a part if it is there already, else None; never downloads."""
    path = weights_dir(part.home) / part.name if part.shipped else cached_folder(part)
    return path if (path / "config.json").is_file() else None


def _shipped(part: Part) -> Path:
    path = weights_dir(part.home) / part.name
    if not (path / "config.json").is_file():
        raise HubError(
            f"The trained part {part.name!r} is missing: it should be in {path}. Install Antiphon again, or train it: "
            f"antiphon train {part.source}"
        )
    return path


def _checked(path: Path) -> Path:
    if not (path / "config.json").is_file():
        raise HubError(f"{path} is not a model's folder: it has no config.json.")
    return path


def _looks_like_hub_id(name: str) -> bool:
    pieces = name.split("/")
    return len(pieces) == 2 and all(pieces) and not name.startswith((".", "~"))


def _from_hub(name: str) -> Path:
    import huggingface_hub

    wanted = ["*.json", "*.safetensors", "*.pt", "*.txt", "*.md"]
    try:
        path = Path(huggingface_hub.snapshot_download(name, allow_patterns=wanted))
    except Exception as error:  # its errors come from four libraries; all mean that the model cannot be had
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise HubError(
            f"{name} is no folder here and could not be had from the model hub ({reason.rstrip('.')}). Check the name "
            "and the network, or download the model and give its folder."
        ) from error
    inner = [config.parent for config in path.glob("*/config.json")]
    return inner[0] if len(inner) == 1 and not (path / "config.json").is_file() else path
