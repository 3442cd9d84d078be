"""`antiphon info`: versions, cores, the cache, and which parts of which presets are there."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

from antiphon import __version__
from antiphon.cli.common import Json, results, write_json
from antiphon.evals.machine import available_cores, version

LIBRARIES = ("torch", "numpy", "safetensors", "tokenizers", "av", "soundfile", "soxr", "sounddevice")


def info(json: Json = None) -> None:
    """Print versions, the cache and the presets' parts."""
    with results() as stdout:
        found = collect()
        print(
            f"antiphon {found['version']}, Python {found['python']}, {found['cores']} cores, {found['system']}",
            file=stdout,
        )
        print(
            "libraries: " + ", ".join(f"{name} {version}" for name, version in found["libraries"].items()), file=stdout
        )
        print(f"cache:     {found['cache']} ({found['cache_mb']:.0f} MB)", file=stdout)
        for preset, parts in found["presets"].items():
            print(f"preset {preset}:", file=stdout)
            for role, part in parts.items():
                state = part["folder"] or ("missing" if part["shipped"] else f"{part['download_mb']:.0f} MB to fetch")
                print(f"  {role:8} {part['name']:22} {part['licence']:11} {state}", file=stdout)
        write_json(json, found)


def collect() -> dict[str, Any]:
    """Everything that `info` tells."""
    from antiphon import hub

    presets = {}
    for preset in hub.PRESETS:
        presets[preset.name] = {
            role: {
                "name": part.name,
                "title": part.title,
                "source": part.source,
                "licence": part.licence,
                "shipped": part.shipped,
                "download_mb": part.size / 1e6,
                "packages": [f"{w.project}=={w.version} sha256:{w.sha256}" for w in part.wheels],
                "shipped_mb": part.shipped_size / 1e6,
                "sha256": part.sha256,
                "folder": str(hub.present(part) or ""),
            }
            for role, part in preset.parts.items()
        }
    return {
        "version": __version__,
        "python": platform.python_version(),
        "system": platform.platform(terse=True),
        "cores": available_cores(),
        "libraries": {name: version(name) or "not installed" for name in LIBRARIES},
        "cache": str(hub.cache_dir()),
        "cache_mb": _megabytes(hub.cache_dir()),
        "presets": presets,
    }


def _megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6 if folder.is_dir() else 0.0
