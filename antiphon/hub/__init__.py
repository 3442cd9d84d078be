"""Presets and weights: find, fetch, verify, convert. `folder("thinker")` is all that most callers need."""

from antiphon.errors import HubError
from antiphon.hub.cache import cache_dir
from antiphon.hub.fetch import fetch, tell_needs
from antiphon.hub.folders import folder, present, weights_dir
from antiphon.hub.memory import check_memory, default_preset, fitting, free_memory
from antiphon.hub.parts import Joined, Part, Wheel
from antiphon.hub.presets import BASE, MINI, MINI_DUPLEX, PRESETS, SMALL, Preset, preset, role_of

__all__ = [
    "BASE",
    "MINI",
    "MINI_DUPLEX",
    "PRESETS",
    "SMALL",
    "HubError",
    "Joined",
    "Part",
    "Preset",
    "Wheel",
    "cache_dir",
    "check_memory",
    "default_preset",
    "fetch",
    "fitting",
    "folder",
    "free_memory",
    "present",
    "preset",
    "role_of",
    "tell_needs",
    "weights_dir",
]
