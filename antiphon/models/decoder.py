"""Whisper's decoder, checking a draft instead of writing word after word.

The adapter's CTC hears what was said a piece at a time, all at once; Whisper's own decoder, trained on 680,000 hours,
hears better but writes one token a step. So the adapter's text is the draft and the decoder reads it in one pass: up
to the first token that it would have written otherwise the draft stands; there the decoder's token goes in, and the
rest of the draft is read again (speculative decoding, Leviathan et al. 2023). The result is the decoder's own greedy
transcript, for a few passes.

Weights and key names are those of `transformers`' WhisperDecoder.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from antiphon.errors import AntiphonError
from antiphon.nn.weights import fill

_PREFIX = "model.decoder."
START = (50258, 50259, 50359, 50363)  # <|startoftranscript|> <|en|> <|transcribe|> <|notimestamps|>
END = 50257
NO_SPEECH = 50362
SPACE = 220


class DecoderError(AntiphonError):
    """A folder that holds no Whisper decoder."""


@dataclass(frozen=True)
class DecoderConfig:
    """Shape of the decoder, and which tokens it may not write."""

    width: int = 512
    layers: int = 6
    heads: int = 8
    inner: int = 2048
    vocabulary: int = 51865
    positions: int = 448
    start: tuple[int, ...] = START
    end: int = END
    no_speech: int = NO_SPEECH
    suppress: tuple[int, ...] = ()
    suppress_first: tuple[int, ...] = (SPACE, END)


@dataclass(frozen=True)
class Transcript:
    """What the decoder wrote.

    Attributes:
        tokens: without start and end.
        passes: through the decoder.
        no_speech: the probability that it gives to there being no speech at all.
        confidence: mean log probability of the tokens and the end.
        ended: False if it went on to the limit, as Whisper does when it loops.
    """

    tokens: list[int]
    passes: int
    no_speech: float
    confidence: float
    ended: bool


Pair = tuple[Tensor, Tensor]  # keys and values [1, heads, frames, width / heads]


class DecoderAttention(nn.Module):
    """Attention whose keys and values are made apart from the query, so that both can be kept."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)

    def pair(self, x: Tensor) -> Pair:
        """Keys and values of x [B, T, width]."""
        return self._split(self.k_proj(x)), self._split(self.v_proj(x))

    def forward(self, x: Tensor, pair: Pair, mask: Tensor | None = None) -> Tensor:
        """x [B, T, width] looks at `pair`; mask [T, keys] is True where it may."""
        out = F.scaled_dot_product_attention(self._split(self.q_proj(x)), *pair, attn_mask=mask)
        return self.out_proj(out.transpose(1, 2).flatten(2))


class DecoderLayer(nn.Module):
    """Self-attention, attention to the sound, feed-forward; each normed before and added after."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.self_attn = DecoderAttention(config.width, config.heads)
        self.self_attn_layer_norm = nn.LayerNorm(config.width)
        self.encoder_attn = DecoderAttention(config.width, config.heads)
        self.encoder_attn_layer_norm = nn.LayerNorm(config.width)
        self.fc1 = nn.Linear(config.width, config.inner)
        self.fc2 = nn.Linear(config.inner, config.width)
        self.final_layer_norm = nn.LayerNorm(config.width)

    def forward(self, x: Tensor, past: Pair | None, sound: Pair, mask: Tensor) -> tuple[Tensor, Pair]:
        """x [B, T, width] -> the same, and self-attention's keys and values, the past's included."""
        y = self.self_attn_layer_norm(x)
        new = self.self_attn.pair(y)
        pair = new if past is None else (torch.cat([past[0], new[0]], 2), torch.cat([past[1], new[1]], 2))
        x = x + self.self_attn(y, pair, mask)
        x = x + self.encoder_attn(self.encoder_attn_layer_norm(x), sound)
        return x + self.fc2(F.gelu(self.fc1(self.final_layer_norm(x)))), pair


class WhisperDecoder(nn.Module):
    """Tokens and the encoder's features -> the next tokens."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocabulary, config.width)
        self.embed_positions = nn.Embedding(config.positions, config.width)
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.layers))
        self.layer_norm = nn.LayerNorm(config.width)
        banned = torch.zeros(config.vocabulary, dtype=torch.bool)
        banned[[*config.suppress, *range(config.end + 1, config.vocabulary)]] = True
        self.register_buffer("banned", banned, persistent=False)

    @classmethod
    def from_pretrained(cls, folder: Path | str, suppress: tuple[int, ...] = ()) -> WhisperDecoder:
        """The decoder of a multilingual Whisper folder with `transformers`' keys, float32.

        Args:
            folder: config.json, model.safetensors and, if there is one, generation_config.json.
            suppress: tokens that it may not write, besides those that the folder names.

        Raises:
            DecoderError: the folder holds something else.
        """
        folder = Path(folder)
        try:
            tree = json.loads((folder / "config.json").read_text())
            generation = folder / "generation_config.json"
            rules = json.loads(generation.read_text()) if generation.exists() else {}
            with safe_open(folder / "model.safetensors", "pt") as file:
                names = [name for name in file.keys() if name.startswith(_PREFIX)]
                weights = {name[len(_PREFIX) :]: file.get_tensor(name).float() for name in names}
            decoder = cls(
                DecoderConfig(
                    width=tree["d_model"],
                    layers=tree["decoder_layers"],
                    heads=tree["decoder_attention_heads"],
                    inner=tree["decoder_ffn_dim"],
                    vocabulary=tree["vocab_size"],
                    positions=tree["max_target_positions"],
                    suppress=(*(rules.get("suppress_tokens") or ()), *suppress),
                    suppress_first=tuple(rules.get("begin_suppress_tokens") or (SPACE, END)),
                )
            )
            fill(decoder, weights)
        except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise DecoderError(f"{folder} holds no Whisper decoder that can be read: {error}") from error
        return decoder.eval()

    def listen(self, features: Tensor) -> list[Pair]:
        """What each layer's attention needs of features [1, frames, width]; those of later frames can be appended."""
        return [layer.encoder_attn.pair(features) for layer in self.layers]

    def forward(self, tokens: Tensor, sound: list[Pair], past: list[Pair] | None = None) -> tuple[Tensor, list[Pair]]:
        """Logits of what follows each token.

        Args:
            tokens: [B, T].
            sound: from `listen`.
            past: what an earlier call returned for the tokens before these.

        Returns:
            ([B, T, vocabulary], past with these tokens).
        """
        before = past[0][0].shape[2] if past else 0
        count = tokens.shape[1]
        x = self.embed_tokens(tokens) + self.embed_positions.weight[before : before + count]
        mask = torch.ones(count, before + count, dtype=torch.bool, device=tokens.device).tril(before)
        kept = []
        for index, layer in enumerate(self.layers):
            x, pair = layer(x, past[index] if past else None, sound[index], mask)
            kept.append(pair)
        return F.linear(self.layer_norm(x), self.embed_tokens.weight), kept

    @torch.no_grad()
    def transcribe(self, sound: list[Pair], draft: list[int], most: int = 120, look: int = 12) -> Transcript:
        """The greedy transcript, found by checking a draft.

        Args:
            sound: from `listen`.
            draft: tokens that the transcript is likely to be; [] gives plain greedy decoding. It changes the work, not
                the result.
            most: tokens at most.
            look: tokens of the draft that are checked in one pass, at most.

        Returns:
            The tokens and how they were found.
        """
        config = self.config
        device = self.embed_tokens.weight.device
        first = torch.tensor(config.suppress_first, device=device)
        out: list[int] = []
        past: list[Pair] | None = None
        unread, rest = list(config.start), list(draft)
        passes, no_speech, ended, sure = 0, 0.0, False, []
        reach = look
        most = min(most, config.positions - len(config.start) - 1)
        while len(out) < most:
            guess = rest[: min(reach, most - len(out))]
            logits, past = self(torch.tensor([unread + guess], device=device), sound, past)
            if passes == 0:
                no_speech = float(logits[0, 0].softmax(-1)[config.no_speech])
            passes += 1
            logits = logits[0, len(unread) - 1 :]
            logits[:, self.banned] = -torch.inf
            if not out:
                logits[0, first] = -torch.inf
            best = logits.argmax(-1).tolist()
            right = 0
            while right < len(guess) and best[right] == guess[right]:
                right += 1
            # Work on a token that is thrown away is wasted: trust a draft that was wrong for less, until it is right
            # again.
            reach = min(look, 2 * reach) if right == len(guess) else max(2, right + 1)
            out += guess[:right]
            sure += logits[: right + 1].log_softmax(-1).amax(-1).tolist()
            if best[right] == config.end:
                ended = True
                break
            out.append(best[right])
            past = [
                (k[:, :, : len(config.start) + len(out) - 1], v[:, :, : len(config.start) + len(out) - 1])
                for k, v in past
            ]
            unread, rest = [best[right]], realign(rest[right:], best[right])
        out = out[:most]
        sure = sure[: len(out) + ended]
        return Transcript(out, passes, no_speech, sum(sure) / max(1, len(sure)), ended)


def realign(rest: list[int], token: int, reach: int = 4) -> list[int]:
    """What remains of a draft once `token` was written where `rest` begins.

    If the token comes a little later in the draft, what stood before it was too much; else it replaces the first one.

    >>> realign([7, 8, 9], 8), realign([7, 8, 9], 5)
    ([9], [8, 9])
    """
    for position, other in enumerate(rest[:reach]):
        if other == token:
            return rest[position + 1 :]
    return rest[1:]


def foreign_tokens(tokenizer: Tokenizer, end: int = END) -> tuple[int, ...]:
    """Tokens under `end` that are not plain ASCII: unsure of a word, Whisper now and then goes on in another script."""
    # In byte-level vocabularies every byte but printable ASCII is written as a character above U+007F; "\u0120" is the
    # space.
    known = tokenizer.get_vocab().items()
    return tuple(
        sorted(index for token, index in known if index < end and any(c > "\x7f" and c != "\u0120" for c in token))
    )


def whisper_tokens(tokenizer: Tokenizer, text: str) -> list[int]:
    """A text as Whisper writes it: with a space before it."""
    return tokenizer.encode(" " + text.strip(), add_special_tokens=False).ids if text.strip() else []
