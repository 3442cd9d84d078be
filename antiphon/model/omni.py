"""Qwen2.5-Omni or Qwen3-Omni as a model that one talks to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from antiphon import hub
from antiphon.audio.io import Audio
from antiphon.dialogue.backend import check_voice
from antiphon.dialogue.chat import joined
from antiphon.dialogue.events import Sampling
from antiphon.dialogue.omni import OmniBackend
from antiphon.model.base import given_sampling, heard_from, named_parts
from antiphon.model.half_duplex import TurnModel
from antiphon.models.asr.heard import ENGLISH, Heard, HearingOptions
from antiphon.models.omni import weights
from antiphon.models.omni.parts import BESIDE, beside

if TYPE_CHECKING:
    from antiphon.audio.given import Sound


class OmniModel(TurnModel):
    """Qwen2.5-Omni or Qwen3-Omni: hears and sees by itself, thinks, and speaks while it thinks.

    Args:
        backend: loaded.
    """

    backend: OmniBackend

    def __init__(self, backend: OmniBackend):
        self.backend = backend

    @classmethod
    def from_pretrained(cls, folder: Path, **parts: str | Path | None) -> OmniModel:
        """Loads a folder. Of `parts`, `thinker` replaces the thinker's language model, as `weights.save_language_model`
        writes it; `talker` and `codec` speak where the folder has no talker of its own, and `recognizer` hears turns.

        Raises:
            ModelError: it is no whole model, or is too large for the memory.
        """
        replaced = named_parts(folder, parts, ("thinker", *BESIDE))
        thinker = replaced.pop("thinker", None)
        language_model = None if thinker is None else hub.folder(thinker)
        need = weights.memory(folder, language_model) + sum(map(hub.weight_bytes, beside(folder, replaced).values()))
        hub.check_memory(folder, need)
        return cls(OmniBackend.from_pretrained(folder, language_model, parts=replaced))

    def save(self, folder: Path | str) -> Path:
        """See `Model.save`: a folder as it is published; a packed one isn't written."""
        self.backend.save(folder)
        return Path(folder)

    def hear(
        self,
        audio: Sound,
        sample_rate: int | None = None,
        language: str | None = None,
        translate: bool = False,
        words: bool = False,
        scene: bool = True,
    ) -> Heard:
        """See `Model.hear`; the thinker writes it down, or a recognizer where there is one."""
        return self.backend.hear(heard_from(audio, sample_rate), HearingOptions(language, ENGLISH, translate, words))

    def say(
        self,
        text: str,
        seed: int = 0,
        temperature: float | None = None,
        top_k: int | None = None,
        voice: str | None = None,
    ) -> Audio:
        """See `Model.say`."""
        check_voice(voice, self.backend.voices)
        how = replace(Sampling(seed, voice=voice), **given_sampling(temperature, top_k))
        return joined([piece.samples for piece in self.backend.say(text, how)], self.backend.sample_rate)
