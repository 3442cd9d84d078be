"""What an Omni's thinker thinks while a text is being said, for a talker that reads its states."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from antiphon.data.states import ASKED, states_of
from antiphon.models.omni.model import Omni
from antiphon.models.omni.processor import OmniProcessor


@torch.inference_mode()
def omni_states(model: Omni, processor: OmniProcessor, texts: Sequence[str]) -> list[tuple[list[str], torch.Tensor]]:
    """Texts as the thinker would think them in a chat; see `antiphon.data.states.thought_states`."""
    state, thinker = model.init_state(), model.thinker
    model.read(state, processor([*processor.opening(), {"role": "user", "content": ASKED}]))

    def read(tokens: torch.Tensor) -> torch.Tensor:
        rows, length = tokens.shape
        places = torch.arange(state.last, state.last + length).expand(3, rows, -1)
        return thinker(thinker.language_model.embed(tokens), places, state.thinker.fork([0] * rows)).float()

    return states_of(texts, processor.plain, state.hidden.float(), read)
