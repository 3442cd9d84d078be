"""Qwen3-Omni's talker: reads what was asked and the words of the reply, and speaks in frames of codes, 12.5 a second.

Of what users said it reads the text, and what the thinker made of the rest; of the reply the text alone, a piece a
frame, which may still be being written. It says the first code of a frame; a small transformer tells the frame's other
codes one from the other (multi-token prediction), and the sum of all their embeddings is read with the next piece of
text (Qwen3-Omni, Xu et al. 2025, section 2.4).

    x = talker.begin(role, first, speaker, bos, pad)       # behind `talker.asked(...)` of what users said
    hidden = talker(x[None], places, cache)[:, -1]
    code = talker.logits(hidden).argmax(-1)
    codes = talker.frame(hidden, int(code), greedy)
    hidden = talker(talker.next(codes, text)[None], places, cache)[:, -1]
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from antiphon.models.llm.llama import Llama
from antiphon.models.llm.sampling import TokenSampling, sample_rows
from antiphon.models.omni.qwen3.config import TalkerConfig
from antiphon.models.omni.qwen3.positions import angles
from antiphon.nn.cache import KeyValues

MARKS = 1024  # the last of the vocabulary: marks and speakers, as published
ROLE = 3  # tokens with which a reply begins: a mark, who speaks, a new line
READ_FIRST = 9  # what `begin` gives


class Projection(nn.Module):
    """The thinker's width to the talker's."""

    def __init__(self, width: int, inner: int, out: int):
        super().__init__()
        self.linear_fc1, self.linear_fc2 = nn.Linear(width, inner), nn.Linear(inner, out)

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] -> [..., out], float32."""
        return self.linear_fc2(F.silu(self.linear_fc1(x.to(self.linear_fc1.weight.dtype)))).float()


class CodePredictor(nn.Module):
    """A frame's other codes from its first one: each codebook but the first has an embedding and a head."""

    def __init__(self, config: TalkerConfig):
        super().__init__()
        text, others = config.predictor, config.groups - 1
        self.lm = Llama(text)
        self.lm.embed_tokens = nn.Identity()
        self.embeddings = nn.ModuleList(nn.Embedding(text.vocab_size, text.hidden_size) for _ in range(others))
        self.heads = nn.ModuleList(nn.Linear(text.hidden_size, text.vocab_size, bias=False) for _ in range(others))

    def forward(self, hidden: Tensor, first: Tensor, sampling: TokenSampling, number: int) -> list[int]:
        """The codes behind the first one.

        Args:
            hidden: the talker's state that the first code was drawn from, [width].
            first: that code's embedding in the talker, [width].
            sampling: how they are drawn.
            number: of the frame.
        """
        x, cache, codes = torch.stack([hidden, first])[None], self.lm.init_cache(capacity=len(self.heads) + 1), []
        for level, head in enumerate(self.heads):
            state = self.lm(x, cache)[:, -1]
            logits = head(state.to(head.weight.dtype)).float()
            codes += sample_rows(logits, [sampling], [number * len(self.heads) + level], [[]])
            x = self.embeddings[level](torch.tensor([codes[-1:]], device=hidden.device)).float()
        return codes


class Qwen3Talker(nn.Module):
    """See the module."""

    def __init__(self, config: TalkerConfig):
        super().__init__()
        self.config, text = config, config.text
        sizes = (config.width, text.intermediate_size, text.hidden_size)
        self.text_projection, self.hidden_projection = Projection(*sizes), Projection(*sizes)
        self.lm = Llama(text)
        self.predictor = CodePredictor(config)

    def asked(self, embeddings: Tensor, hidden: Tensor, perceived: Tensor) -> Tensor:
        """What is read of users' turns.

        Args:
            embeddings: of the thinker's tokens, [T, width].
            hidden: what its first layers made of them, [T, width].
            perceived: whether a token is of something heard or seen, [T].

        Returns:
            [T, hidden].
        """
        x = embeddings.new_zeros(len(embeddings), self.config.text.hidden_size, dtype=torch.float32)
        x[perceived] = self.hidden_projection(hidden[perceived])
        x[~perceived] = self.text_projection(embeddings[~perceived])
        return x

    def begin(self, role: Tensor, first: Tensor, speaker: int, bos: Tensor, pad: Tensor) -> Tensor:
        """What is read before the first code.

        Args:
            role: embeddings of the thinker's tokens with which the reply begins, [3, width].
            first: of the reply's first token, [width].
            speaker: code.
            bos, pad: embeddings of the thinker's tokens that say that text begins, and that there is none, [width].

        Returns:
            [9, hidden].
        """
        marks = self.config.tokens
        codes = [marks.codec_nothink_id, marks.codec_think_bos_id, marks.codec_think_eos_id, speaker]
        codes += [marks.codec_pad_id, marks.codec_bos_id]
        text = self.text_projection(torch.cat([role, pad.expand(4, -1), bos[None], first[None]]))
        return text + F.pad(self.lm.embed(torch.tensor(codes, device=text.device)), (0, 0, ROLE, 0))

    def frame(self, hidden: Tensor, first: int, sampling: TokenSampling, number: int = 0) -> tuple[int, ...]:
        """All codes of a frame, given its first one and the state [width] that it was drawn from."""
        embedded = self.lm.embed(torch.tensor(first, device=hidden.device))
        return (first, *self.predictor(hidden, embedded, sampling, number))

    def next(self, codes: Sequence[int], text: Tensor) -> Tensor:
        """What is read at each frame: its codes, and the embedding of the thinker's token that follows [width]; [1,
        hidden]."""
        at = torch.tensor(list(codes), device=text.device)
        others = [table(code).float() for table, code in zip(self.predictor.embeddings, at[1:])]
        return torch.stack([self.lm.embed(at[0]), *others]).sum(0, keepdim=True) + self.text_projection(text[None])

    def forward(self, x: Tensor, places: Tensor, cache: KeyValues | None = None) -> Tensor:
        """Hidden states [B, T, hidden] of [B, T, hidden] at places [3, B, T]."""
        return self.lm(x, cache, angles=angles(places, self.lm.frequencies, self.config.sections))

    def logits(self, hidden: Tensor) -> Tensor:
        """[..., hidden] -> [..., codes], float32; what is neither a code nor the end is out of the question."""
        logits = self.lm.logits(hidden)
        end = self.config.tokens.codec_eos_token_id
        ended = logits[..., end].clone()
        logits[..., -MARKS:] = -torch.inf
        logits[..., end] = ended
        return logits
