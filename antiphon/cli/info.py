"""`antiphon info`: versions, cores, memory, the cache, what each preset takes, and which parts are there."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

from antiphon import __version__
from antiphon.cli.common import Json, results, write_json
from antiphon.evals.machine import available_cores, version

LIBRARIES = ("torch", "numpy", "safetensors", "tokenizers", "av", "soundfile", "soxr", "sounddevice")


def info(json: Json = None) -> None:
    """Print versions, what fits this machine, the cache and the presets' parts."""
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
        print(f"memory:    {found['memory_free_mb'] / 1e3:.1f} GB free", file=stdout)
        for preset, parts in found["presets"].items():
            print(f"preset {preset}: {_described(found['needs'][preset])}", file=stdout)
            for role, part in parts.items():
                state = part["folder"] or ("missing" if part["shipped"] else f"{part['download_mb']:.0f} MB to fetch")
                print(f"  {role:8} {part['name']:28} {part['licence']:11} {state}", file=stdout)
        write_json(json, found)


def _described(needs: dict[str, Any]) -> str:
    """What a preset takes, in words."""
    parts = [needs["title"]]
    if needs["download_mb"]:
        parts.append(f"{needs['download_mb']:.0f} MB to fetch, {needs['disk_mb'] / 1e3:.1f} GB of disk meanwhile")
    fits = "fits" if needs["fits"] else "too large for what is free"
    parts.append(f"{needs['memory_mb'] / 1e3:.1f} GB of memory ({fits})")
    return "; ".join(parts) + ("; taken where none is named" if needs["default"] else "")


def collect() -> dict[str, Any]:
    """Everything that `info` tells."""
    from antiphon import hub

    presets, takes, free = {}, {}, hub.free_memory()
    for preset in hub.PRESETS:
        download, disk = hub.needs(part for part in preset.fetched if hub.present(part) is None)
        takes[preset.name] = {
            "title": preset.title,
            "download_mb": download / 1e6,
            "disk_mb": disk / 1e6,
            "memory_mb": preset.memory / 1e6,
            "fits": preset.memory <= free,
            "default": preset is hub.affordable(free),
        }
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
        "memory_free_mb": free / 1e6,
        "needs": takes,
        "presets": presets,
    }


def _megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6 if folder.is_dir() else 0.0
