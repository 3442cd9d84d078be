"""Presets and weights: find, fetch, verify, convert. `folder("llm")` is all that most callers need."""

from antiphon.errors import HubError
from antiphon.hub.cache import cache_dir
from antiphon.hub.fetch import fetch
from antiphon.hub.folders import folder, present, weights_dir
from antiphon.hub.presets import MINI, MINI_DUPLEX, PRESETS, Part, Preset, Wheel, preset, role_of

__all__ = [
    "MINI",
    "MINI_DUPLEX",
    "PRESETS",
    "HubError",
    "Part",
    "Preset",
    "Wheel",
    "cache_dir",
    "fetch",
    "folder",
    "present",
    "preset",
    "role_of",
    "weights_dir",
]
