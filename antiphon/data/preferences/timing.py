"""What a duplex model does while a user speaks, several times over: when it speaks, and when it is silent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from antiphon.audio.io import Audio
from antiphon.data.dialogue.codes import CodedDialogue
from antiphon.data.dialogue.grid import NOTHING
from antiphon.data.preferences.mine import Drawn, Prompt, seed_of
from antiphon.errors import ConfigError
from antiphon.models.moshi.bundle import Duplex
from antiphon.models.moshi.config import MoshiSampling
from antiphon.models.moshi.talk import talk


def dialogue_prompts(dialogues: Sequence[CodedDialogue]) -> list[Prompt]:
    """The users of conversations as prompts; `about["dialogue"]` is the conversation."""
    return [
        Prompt(each.id, " ".join(word.text for word in each.words if word.speaker == "user"), {"dialogue": each})
        for each in dialogues
    ]


class TimingDraws:
    """What a duplex model makes of a user's side: see `antiphon.data.preferences.mine.Draw`.

    Answers are grids, not delayed: text, own codes, the user's codes. The sound has the model left, the user right.

    Args:
        duplex: talks.
        seconds: of each conversation, from its start.
        sampling: how it draws; None: as it is best drawn from.
        sound: also decode, so that one can listen.
        seed: of all samples.

    Raises:
        ConfigError: the model goes by its hearing.
    """

    def __init__(
        self, duplex: Duplex, seconds: float = 24.0, sampling: MoshiSampling | None = None, sound: bool = True,
        seed: int = 0,
    ):  # fmt: skip
        if duplex.moshi.config.hearing is not None:
            raise ConfigError(
                "Pairs are drawn from conversations' codes, in which a duplex model that goes by its hearing hears "
                "nothing; take one without."
            )
        self.duplex, self.sampling, self.sound, self.seed = duplex, sampling or duplex.sampling, sound, seed
        self.frames = int(seconds * duplex.frame_rate)

    @torch.inference_mode()
    def __call__(self, prompts: Sequence[Prompt], samples: int) -> list[list[Drawn]]:
        users = [self._user(prompt.about["dialogue"]) for prompt in prompts]
        rows = [user for user in users for _ in range(samples)]
        seeds = [seed_of(prompt, number, self.seed) for prompt in prompts for number in range(samples)]
        together = pad_sequence([user.T for user in rows], batch_first=True, padding_value=NOTHING).mT
        made = talk(self.duplex.moshi, together.to(self.duplex.device), self.sampling, seeds).cpu()
        grids = [torch.cat([own[:, : user.shape[1]], user]) for own, user in zip(made, rows)]
        answers = [Drawn(grid.numpy(), self._words(grid), self._sound(grid)) for grid in grids]
        return [answers[at : at + samples] for at in range(0, len(answers), samples)]

    def _user(self, dialogue: CodedDialogue) -> Tensor:
        """What the user says, codes [user codebooks, frames]."""
        heard = dialogue.codes[dialogue.codebooks :][: self.duplex.moshi.config.user_codebooks, : self.frames]
        return torch.from_numpy(heard.astype(np.int64))

    def _words(self, grid: Tensor) -> str:
        config = self.duplex.moshi.config
        said = [token for token in grid[0].tolist() if token not in (NOTHING, config.pad, config.end_pad)]
        return self.duplex.pieces.decode(said).strip()

    def _sound(self, grid: Tensor) -> Audio | None:
        if not self.sound:
            return None
        own = self.duplex.moshi.config.codebooks
        both = [codes.clamp_min(0)[None].to(self.duplex.device) for codes in (grid[1 : 1 + own], grid[1 + own :])]
        channels = torch.cat([self.duplex.codec.decode(codes)[0] for codes in both])
        return Audio(channels.cpu(), self.duplex.sample_rate)
