"""From the name of a part to its folder: shipped, fetched, the user's own (a GGUF file, too), or a model hub's."""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Callable
from pathlib import Path

from antiphon.errors import AntiphonError, HubError
from antiphon.hub.cache import cache_dir, check_space, filling
from antiphon.hub.fetch import BUILD_VERSION, cached_folder, fetch
from antiphon.hub.memory import PACKED_BYTES, check_memory
from antiphon.hub.parts import Part
from antiphon.hub.presets import MINI, Preset, part_named, preset, role_of
from antiphon.hub.shipped import shipped


def weights_dir(name: str = "mini") -> Path:
    """A folder of shipped parts: inside the installed package, or at the top of a checkout."""
    return shipped(f"weights/{name}")


def folder(part: Part | Path | str, of: Preset | str = MINI) -> Path:
    """The folder of a part, fetched and converted first if need be.

    Args:
        part: a `Part`; or a role of the preset ("thinker") or the name of a part of any ("whisper-base"); or a folder;
            or a language model's GGUF file, which is converted once; or a hub id ("organisation/name", or
            "organisation/name/FILE.gguf"). A folder that has the name of a part is given as "./thinker".
        of: the preset whose roles are meant.

    Returns:
        A folder with config.json and, for a part, model.safetensors.

    Raises:
        HubError: there is none, or it cannot be had or converted.
    """
    of = preset(of) if isinstance(of, str) else of
    if isinstance(part, str):
        part = of.parts.get(role_of(part)) or part_named(part) or part
    if isinstance(part, Part):
        return _shipped(part) if part.shipped else fetch(part)
    path = Path(part).expanduser()
    if path.is_dir():
        files = [] if (path / "config.json").is_file() else sorted(path.glob("*.gguf"))
        return _converted(files[0]) if len(files) == 1 else _checked(path)
    if path.is_file():
        return _converted(path)
    if isinstance(part, str) and (pieces := _hub_id(part)):
        return _converted(_file_from_hub(*pieces)) if pieces[1] else _checked(_from_hub(part))
    raise HubError(
        f"{part}: there is no such folder or file, and it is no part of {of.name!r} (its parts: "
        f"{', '.join(of.parts)}) nor a hub id (organisation/name)."
    )


def present(part: Part) -> Path | None:
    """The folder of a part if it is there already, else None; never downloads."""
    path = weights_dir(part.home) / part.name if part.shipped else cached_folder(part)
    return path if (path / "config.json").is_file() else None


def _shipped(part: Part) -> Path:
    path = weights_dir(part.home) / part.name
    if not (path / "config.json").is_file():
        raise HubError(
            f"The trained part {part.name!r} is missing: it should be in {path}. Take it from a checkout of Antiphon, "
            f"or train it: antiphon train {part.source}"
        )
    return path


def _checked(path: Path) -> Path:
    if not (path / "config.json").is_file():
        found = [file.name for file in sorted(path.glob("*.gguf"))]
        files = f", and more than one GGUF file: name one, {path / found[0]}" if found else ""
        raise HubError(f"{path} is not a model's folder: it has no config.json{files}.")
    return path


def _converted(path: Path) -> Path:
    """The folder of a GGUF file in the cache, made first if need be.

    It is found again by the file's size, time and first bytes, which hold its name and sizes: reading gigabytes to find
    out that they are the same would cost more than a start may.
    """
    from antiphon.hub.convert_gguf import GgufSource, convert

    if path.suffix.lower() != ".gguf":
        raise HubError(f"{path} is no model: give a folder with config.json and weights, or a .gguf file.")
    about = path.stat()
    with path.open("rb") as file:
        what = f"{about.st_size} {about.st_mtime_ns} {BUILD_VERSION}".encode() + file.read(1 << 20)
    target = cache_dir() / "gguf" / f"{path.stem}-{hashlib.sha256(what).hexdigest()[:12]}"
    if target.is_dir():
        return target
    with filling(target) as scratch:
        if scratch is not None:
            try:
                need = int(PACKED_BYTES * sum(math.prod(shape) for shape in GgufSource(path).shapes.values()))
                check_space(scratch, need)
                check_memory(path, need)
                print(f"{path.name}: converting, once, into {target}", file=sys.stderr, flush=True)
                convert(path, scratch / "done")
            except (AntiphonError, OSError):
                raise
            except Exception as error:  # of the library that reads it, at whatever a broken file holds
                raise HubError(
                    f"{path} could not be converted ({type(error).__name__}: {error}): is it whole?"
                ) from error
    return target


def _hub_id(name: str) -> tuple[str, str] | None:
    """ "organisation/name" and, if one is named, the file behind it; None for what is no hub id."""
    pieces = name.split("/", 2)
    if len(pieces) < 2 or not all(pieces) or name.startswith((".", "~")):
        return None
    file = "".join(pieces[2:])
    return ("/".join(pieces[:2]), file) if not file or file.lower().endswith(".gguf") else None


def _file_from_hub(name: str, file: str) -> Path:
    import huggingface_hub

    return _had(f"{name}/{file}", lambda: huggingface_hub.hf_hub_download(name, file))


def _from_hub(name: str) -> Path:
    import huggingface_hub

    wanted = ["*.json", "*.safetensors", "*.pt", "*.txt", "*.md", "*.jinja", "*.model"]
    path = _had(name, lambda: huggingface_hub.snapshot_download(name, allow_patterns=wanted))
    inner = [config.parent for config in path.glob("*/config.json")]
    return inner[0] if len(inner) == 1 and not (path / "config.json").is_file() else path


def _had(name: str, download: Callable[[], str]) -> Path:
    """What the model hub gives."""
    try:
        return Path(download())
    except Exception as error:  # its errors come from four libraries; all mean that the model cannot be had
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise HubError(
            f"{name} is no folder here and could not be had from the model hub ({reason.rstrip('.')}). Check the name "
            "and the network, or download the model and give its folder."
        ) from error
