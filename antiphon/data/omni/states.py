"""What an Omni's thinker thinks while a text is being said, for a talker that reads its states."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from antiphon.data.speech.utterances import Turn
from antiphon.data.states import ASKED, states_of
from antiphon.errors import DataError
from antiphon.models.omni.model import Omni
from antiphon.models.omni.processor import OmniProcessor


@torch.inference_mode()
def omni_states(
    model: Omni, processor: OmniProcessor, texts: Sequence[str], context: Sequence[Turn] = ()
) -> list[tuple[list[str], torch.Tensor]]:
    """Texts as the thinker would think them in a chat; see `antiphon.data.states.thought_states`.

    Raises:
        DataError: the context says how somebody was heard to sound, of which an Omni reads nothing: it hears it.
    """
    if any(turn.heard for turn in context):
        raise DataError("An Omni hears for itself how somebody sounds: give contexts of words alone.")
    state, thinker = model.init_state(), model.thinker
    turns = [{"role": turn.role, "content": turn.text} for turn in context or (Turn("user", ASKED),)]
    model.read(state, processor([*processor.opening(), *turns]))

    def read(tokens: torch.Tensor) -> torch.Tensor:
        rows, length = tokens.shape
        places = torch.arange(state.last, state.last + length).expand(3, rows, -1)
        return thinker(thinker.language_model.embed(tokens), places, state.thinker.fork([0] * rows)).float()

    return states_of(texts, processor.plain, state.hidden.float(), read)
