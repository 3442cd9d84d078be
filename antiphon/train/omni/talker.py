"""The talker's stages: the codes of replies, from what the thinker thinks of their words.

First by the next code; then for chosen speakers; and anew whenever the thinker was trained (the re-sync stage), as its
hidden states are what the talker reads. A line has besides the conversation, whose last message is the assistant's,
the reply's `codes` (a list, 50 a second) and its `speaker` (a name in spk_dict.pt, or the id of its token).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import MISSING
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from antiphon.data.mixture import Mix, Mixture
from antiphon.errors import ConfigError, DataError
from antiphon.models.omni import weights
from antiphon.models.omni.model import Omni
from antiphon.models.omni.positions import tokens_in
from antiphon.models.omni.processor import AFTER, OmniProcessor
from antiphon.models.omni.thinker import Given, Words, batched
from antiphon.train.config import StageConfig
from antiphon.train.omni.start import Conversations, OmniStart, TrainableOmni, build, marks, processor_of, reply_tokens

IGNORED = -100


@dataclass
class OmniTalkerData:
    """What is said."""

    speech: str = MISSING
    """File of conversations with codes."""
    through_thinker: bool = False
    """Whether what the talker gets wrong is also the thinker's to learn; else its states are taken as they are."""
    own_sound: bool = False
    """Whether videos are heard, too."""


@dataclass
class SpokenReply:
    """A conversation up to a reply, and how that was said.

    Attributes:
        parts: of the conversation, the beginning of the reply included.
        reply: tokens, the end of the turn included.
        codes: [C].
        speaker: token of the text vocabulary.
    """

    parts: list[Given]
    reply: Tensor
    codes: Tensor
    speaker: int


class OmniTalkerTask:
    """See the module, and the Task protocol of the engine."""

    Model, Data = OmniStart, OmniTalkerData

    def __init__(self, config: StageConfig):
        self.config = config
        self.model, self.processor, self.lines = opened(config)

    def batch(self, step: int) -> list[SpokenReply]:
        first = step * self.config.batch
        return [self._spoken(self.lines[first + number]) for number in range(self.config.batch)]

    def _spoken(self, line: dict[str, Any]) -> SpokenReply:
        return spoken(line, self.model, self.processor, self.config.data.own_sound)

    def losses(self, batch: list[SpokenReply], group: str = "model") -> dict[str, Tensor]:
        """`codes`: nats a code, its end included."""
        return {"codes": speech_loss(self.model, batch, self.config.data.through_thinker)}

    def tokens(self, batch: list[SpokenReply]) -> int:
        """Positions that the talker reads."""
        place = self.model.thinker.place
        return sum(sum(tokens_in(place(part)) for part in each.parts) + 2 + len(each.codes) for each in batch)

    def weights(self, batch: list[SpokenReply]) -> dict[str, float]:
        """What `codes` is the mean over."""
        return {"codes": float(sum(len(each.codes) + 1 for each in batch))}

    def sample(self, step: int, folder: Path) -> None:
        """There is nothing to look at before its codes are sounded, which costs more than a step."""

    def export(self, folder: Path) -> None:
        """Writes the whole model, as it is published."""
        weights.save(self.model, folder)


def opened(config: StageConfig) -> tuple[TrainableOmni, OmniProcessor, Mixture]:
    """The model that speaks, what makes parts of messages, and the lines of `data.speech`.

    Raises:
        ConfigError: the model has no thinker or no talker.
    """
    model = build(config.model)
    if model.talker is None or model.thinker is None:
        raise ConfigError("model: it needs a thinker and a talker")
    lines = Mixture({"speech": Conversations(config.data.speech)}, Mix(), config.seed)
    return model, processor_of(config.model, model), lines


def spoken(
    line: dict[str, Any], model: Omni, processor: OmniProcessor, own_sound: bool = False, codes: str = "codes"
) -> SpokenReply:
    """A line's conversation and how its last message was said; `codes` names the field that has them.

    Raises:
        DataError: the line lacks something.
    """
    *before, last = line.get("messages") or [{"role": "", "content": ""}]
    if last["role"] != "assistant" or not line.get(codes):
        raise DataError(f"a line's last message must be the assistant's, and have its {codes}")
    speaker = line.get("speaker")
    if isinstance(speaker, str):
        speaker = model.voice(speaker).token
    if not isinstance(speaker, int):
        raise DataError("a line doesn't say its speaker, a name or the id of a token")
    reply = [*reply_tokens(processor, last["content"]), marks(processor, AFTER)[0]]
    return SpokenReply(processor(before, own_sound), torch.tensor(reply), torch.tensor(line[codes]), speaker)


def speech_loss(model: Omni, batch: Sequence[SpokenReply], through_thinker: bool) -> Tensor:
    """Mean cross-entropy of the codes of replies, nats; see `lay_out`."""
    x, places, target = lay_out(model, batch, through_thinker)
    learnt = target != IGNORED
    return F.cross_entropy(model.talker.logits(model.talker(x, places)[learnt]), target[learnt])


def lay_out(model: Omni, batch: Sequence[SpokenReply], through_thinker: bool) -> tuple[Tensor, Tensor, Tensor]:
    """What the talker reads of replies, as it does when it says them.

    Args:
        model: with thinker and talker.
        batch: replies.
        through_thinker: whether gradients reach the thinker.

    Returns:
        x [batch, T, width], places [3, batch, T], and the right codes [batch, T], -100 where there is none.
    """
    talker, embed = model.talker, model.thinker.language_model.embed
    tokens = model.config.talker.tokens
    with torch.set_grad_enabled(through_thinker and torch.is_grad_enabled()):
        reads = [model.thinker.read([*each.parts, Words(each.reply)]) for each in batch]
        hidden = model.thinker(*batched(reads))
        rows = []
        for row, (read, each) in enumerate(zip(reads, batch)):
            told = hidden[row, : len(read.x)] + read.x * ~read.perceived[:, None]
            marked = torch.tensor([each.speaker, tokens.tts_text_end_token_id, tokens.tts_text_pad_token_id])
            speaker, end, pad = embed(marked.to(told.device))
            asked = len(read.x) - len(each.reply)  # the reply's last token, its end, isn't thought on
            rows.append((told[:asked], speaker, told[asked], torch.stack([*told[asked + 1 : -1], end, pad])))
    xs, targets, places = [], [], []
    for read, each, (asked, speaker, first, following) in zip(reads, batch, rows):
        codes = each.codes.to(asked.device)
        x, target = talker.teacher_forced(talker.begin(asked, speaker, first), following, codes)
        before = read.places[:, : len(asked)]
        behind = int(before.max()) + 1 + torch.arange(2 + len(codes), device=x.device)
        places.append(torch.cat([before, behind.expand(3, -1)], dim=1).T)
        xs.append(x)
        targets.append(target)
    at = pad_sequence(places, batch_first=True).permute(2, 0, 1)
    target = pad_sequence(targets, batch_first=True, padding_value=IGNORED)
    return pad_sequence(xs, batch_first=True), at, target
