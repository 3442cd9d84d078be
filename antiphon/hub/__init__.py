"""Presets and weights: find, fetch, verify, convert. `folder("thinker")` is all that most callers need."""

from antiphon.errors import HubError
from antiphon.hub.cache import cache_dir
from antiphon.hub.fetch import fetch, tell_needs
from antiphon.hub.folders import folder, present, weights_dir
from antiphon.hub.memory import affordable, check_memory, default_preset, fitting, free_memory, weight_bytes
from antiphon.hub.parts import Joined, Part, Wheel
from antiphon.hub.presets import BASE, MINI, MINI_DUPLEX, PRESETS, SMALL, Preset, needs, preset, role_of

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
    "affordable",
    "cache_dir",
    "check_memory",
    "default_preset",
    "fetch",
    "fitting",
    "folder",
    "free_memory",
    "needs",
    "present",
    "preset",
    "role_of",
    "tell_needs",
    "weight_bytes",
    "weights_dir",
]
