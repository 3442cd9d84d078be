"""The talker: reads what the thinker thought of its words, a word's piece a step, and speaks in codes, 50 a second.

What it reads first is the conversation as the thinker has it (hidden states, and embeddings of what is text), then the
speaker and the reply's first token; and from then on, with each code, the reply's next token, which may still be being
written (Qwen2.5-Omni, Xu et al. 2025, section 2.3). Unlike the published code it also trains: `teacher_forced` lays out
a reply with its codes as one sequence.

    x = talker.begin(read, speaker, first)                 # [T, width] ... -> [T + 2, width]
    hidden = talker(x[None], places, cache)
    code = talker.logits(hidden[:, -1]).argmax(-1)
    hidden = talker(talker.next(code, following), places, cache)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from antiphon.models.llm.llama import Llama
from antiphon.models.omni.config import TalkerConfig
from antiphon.models.omni.positions import angles
from antiphon.nn.cache import KeyValues


class Talker(nn.Module):
    """See the module."""

    def __init__(self, config: TalkerConfig):
        super().__init__()
        self.config = config
        self.proj = nn.Linear(config.width, config.text.hidden_size)
        self.lm = Llama(config.text)
        self.lm.embed_tokens = nn.Embedding(config.text.vocab_size, config.width)  # summed with what the thinker gives

    @property
    def ends(self) -> tuple[int, int]:
        """Codes that end the speech."""
        return self.config.tokens.tts_codec_pad_token_id, self.config.tokens.tts_codec_end_token_id

    def begin(self, read: Tensor, speaker: Tensor, first: Tensor) -> Tensor:
        """What is read before the first code.

        Args:
            read: of the conversation, hidden states and embeddings summed, [T, width].
            speaker: the text embedding of the speaker's token, [width].
            first: of the reply's first token, as `read`, [width].

        Returns:
            [T + 2, width].
        """
        tokens = self.config.tokens
        marks = torch.tensor([tokens.tts_codec_pad_token_id, tokens.tts_codec_start_token_id], device=read.device)
        return torch.cat([read, torch.stack([speaker, first]) + self.lm.embed(marks)])

    def next(self, codes: Tensor, following: Tensor) -> Tensor:
        """What is read at each code: codes [...], and of the token that follows [..., width]."""
        return self.lm.embed(codes) + following

    def forward(self, x: Tensor, places: Tensor, cache: KeyValues | None = None) -> Tensor:
        """Hidden states [B, T, hidden] of [B, T, width] at places [3, B, T]."""
        turned = angles(places, self.lm.frequencies, self.config.sections)
        return self.lm(self.proj(x.to(self.proj.weight.dtype)).float(), cache, angles=turned)

    def logits(self, hidden: Tensor) -> Tensor:
        """[..., hidden] -> [..., codes], float32."""
        return self.lm.logits(hidden)

    def teacher_forced(self, begun: Tensor, following: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        """A reply and its codes as one sequence.

        Args:
            begun: from `begin`, [T + 2, width].
            following: of the reply from its second token on, then of the text's end and of padding, [n, width]; the
                last one is read until the speech ends.
            codes: [C].

        Returns:
            What is read, [T + 2 + C, width]; and the code that is right at each of its places, [T + 2 + C], -100 where
            none is.
        """
        steps = torch.arange(len(codes), device=codes.device).clamp_max(len(following) - 1)
        x = torch.cat([begun, self.next(codes, following[steps])])
        target = codes.new_full((len(x),), -100)
        target[len(begun) - 1 : -1] = codes
        target[-1] = self.config.tokens.tts_codec_end_token_id
        return x, target
