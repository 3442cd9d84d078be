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
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from antiphon.errors import ModelError
from antiphon.nn.cpu import PackedLinear, PackedWeights, product
from antiphon.nn.weights import NoInitWeights, fill

_PREFIX = "model.decoder."
START = (50258, 50259, 50359, 50363)  # <|startoftranscript|> <|en|> <|transcribe|> <|notimestamps|>
END = 50257
NO_SPEECH = 50362
SPACE = 220


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


@dataclass
class Writing:
    """A transcript under way. `advance` replaces fields and never writes into one: a copy is a snapshot.

    Attributes:
        sound: from `WhisperDecoder.listen`.
        rest: of the draft, what stands after `tokens`.
        max_tokens: after which it ends.
        look: tokens of the draft that a pass checks, at most; `reach`: that the next one does.
        unread: tokens that the decoder has yet to read; `past`: what it keeps of those before.
        tokens, sure: written so far, and their log probabilities.
        passes, no_speech, ended: as in `Transcript`.
    """

    sound: list[Pair]
    rest: list[int]
    max_tokens: int
    look: int
    unread: list[int]
    reach: int
    past: list[Pair] | None = None
    tokens: list[int] = field(default_factory=list)
    sure: list[float] = field(default_factory=list)
    passes: int = 0
    no_speech: float = 0.0
    ended: bool = False

    @property
    def over(self) -> bool:
        """Nothing is left to write."""
        return self.ended or len(self.tokens) >= self.max_tokens

    def transcript(self) -> Transcript:
        """What stands there."""
        tokens = self.tokens[: self.max_tokens]
        sure = self.sure[: len(tokens) + self.ended]
        return Transcript(tokens, self.passes, self.no_speech, sum(sure) / max(1, len(sure)), self.ended)


class DecoderAttention(nn.Module):
    """Attention whose keys and values are made apart from the query, so that both can be kept."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = PackedLinear(width, width)
        self.k_proj = PackedLinear(width, width, bias=False)
        self.v_proj = PackedLinear(width, width)
        self.out_proj = PackedLinear(width, width)

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
        self.fc1 = PackedLinear(config.width, config.inner)
        self.fc2 = PackedLinear(config.inner, config.width)
        self.final_layer_norm = nn.LayerNorm(config.width)

    def forward(
        self, x: Tensor, past: Pair | None, sound: Pair, mask: Tensor, heard: Tensor | None
    ) -> tuple[Tensor, Pair]:
        """x [B, T, width] -> the same, and self-attention's keys and values, the past's included."""
        y = self.self_attn_layer_norm(x)
        new = self.self_attn.pair(y)
        pair = new if past is None else (torch.cat([past[0], new[0]], 2), torch.cat([past[1], new[1]], 2))
        x = x + self.self_attn(y, pair, mask)
        x = x + self.encoder_attn(self.encoder_attn_layer_norm(x), sound, heard)
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
        self.packed: PackedWeights | None = None

    @classmethod
    def from_pretrained(cls, folder: Path | str, suppress: tuple[int, ...] = ()) -> WhisperDecoder:
        """The decoder of a multilingual Whisper folder with `transformers`' keys, float32.

        Args:
            folder: config.json, model.safetensors and, if there is one, generation_config.json.
            suppress: tokens that it may not write, besides those that the folder names.

        Raises:
            ModelError: the folder holds something else.
        """
        folder = Path(folder)
        try:
            tree = json.loads((folder / "config.json").read_text())
            generation = folder / "generation_config.json"
            rules = json.loads(generation.read_text()) if generation.exists() else {}
            with safe_open(folder / "model.safetensors", "pt") as file:
                names = [name for name in file.keys() if name.startswith(_PREFIX)]
                weights = {name[len(_PREFIX) :]: file.get_tensor(name).float() for name in names}
            config = DecoderConfig(
                width=tree["d_model"],
                layers=tree["decoder_layers"],
                heads=tree["decoder_attention_heads"],
                inner=tree["decoder_ffn_dim"],
                vocabulary=tree["vocab_size"],
                positions=tree["max_target_positions"],
                suppress=(*(rules.get("suppress_tokens") or ()), *suppress),
                suppress_first=tuple(rules.get("begin_suppress_tokens") or (SPACE, END)),
            )
            with NoInitWeights():
                decoder = cls(config)
            fill(decoder, weights, assign=True)
        except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ModelError(f"{folder} holds no Whisper decoder that can be read: {error}") from error
        return decoder.eval()

    def pack(self) -> WhisperDecoder:
        """Keeps a second copy of the weights in float16, which a pass over a few tokens reads in half the time.

        Published Whisper is in float16: nothing is lost.
        """
        linear = [module for module in self.modules() if isinstance(module, PackedLinear)]
        self.packed = PackedWeights([self.embed_tokens.weight, *(module.weight for module in linear)])
        for module in linear:
            module.packed = self.packed
        return self

    def listen(self, features: Tensor) -> list[Pair]:
        """What each layer's attention needs of features [1, frames, width]; those of later frames can be appended."""
        return [layer.encoder_attn.pair(features) for layer in self.layers]

    def forward(
        self, tokens: Tensor, sound: list[Pair], past: list[Pair] | None = None, heard: Tensor | None = None
    ) -> tuple[Tensor, list[Pair]]:
        """Logits of what follows each token.

        Args:
            tokens: [B, T].
            sound: from `listen`.
            past: what an earlier call returned for the tokens before these.
            heard: [B, 1, 1, frames], True where a row has sound; None where all frames are.

        Returns:
            ([B, T, vocabulary], past with these tokens).
        """
        before = past[0][0].shape[2] if past else 0
        count = tokens.shape[1]
        x = self.embed_tokens(tokens) + self.embed_positions.weight[before : before + count]
        mask = torch.ones(count, before + count, dtype=torch.bool, device=tokens.device).tril(before)
        kept = []
        for index, layer in enumerate(self.layers):
            x, pair = layer(x, past[index] if past else None, sound[index], mask, heard)
            kept.append(pair)
        x = self.layer_norm(x)
        logits = product(x.flatten(0, 1), self.embed_tokens.weight, packed=self.packed).unflatten(0, x.shape[:2])
        return logits, kept

    def begin(self, sound: list[Pair], draft: list[int], max_tokens: int = 120, look: int = 12) -> Writing:
        """A greedy transcript to be written by `advance`, found by checking a draft.

        Args:
            sound: from `listen`.
            draft: tokens that the transcript is likely to be; [] gives plain greedy decoding. It changes the work, not
                the result.
            max_tokens: after which it ends, whatever is left.
            look: tokens of the draft that are checked in one pass, at most.
        """
        room = self.config.positions - len(self.config.start) - 1
        return Writing(sound, list(draft), min(max_tokens, room), look, unread=list(self.config.start), reach=look)

    @torch.no_grad()
    def advance(self, writing: Writing) -> None:
        """One pass through the decoder: checks the next tokens of the draft and writes the one after the right ones."""
        config, device = self.config, self.embed_tokens.weight.device
        guess = writing.rest[: min(writing.reach, writing.max_tokens - len(writing.tokens))]
        tokens = torch.tensor([writing.unread + guess], device=device)
        logits, past = self(tokens, writing.sound, writing.past)
        if writing.passes == 0:
            writing.no_speech = float(logits[0, 0].softmax(-1)[config.no_speech])
        writing.passes += 1
        logits = logits[0, len(writing.unread) - 1 :]
        logits[:, self.banned] = -torch.inf
        if not writing.tokens:
            logits[0, torch.tensor(config.suppress_first, device=device)] = -torch.inf
        best = logits.argmax(-1).tolist()
        right = 0
        while right < len(guess) and best[right] == guess[right]:
            right += 1
        # Work on a token that is thrown away is wasted: trust a draft that was wrong for less, until it is right again.
        trusted = right == len(guess)
        writing.reach = min(writing.look, 2 * writing.reach) if trusted else max(2, right + 1)
        writing.sure = writing.sure + logits[: right + 1].log_softmax(-1).amax(-1).tolist()
        writing.tokens = writing.tokens + guess[:right]
        if best[right] == config.end:
            writing.ended = True
            return
        writing.tokens = writing.tokens + [best[right]]
        read = len(config.start) + len(writing.tokens) - 1
        writing.past = [(keys[:, :, :read], values[:, :, :read]) for keys, values in past]
        writing.unread, writing.rest = [best[right]], realign(writing.rest[right:], best[right])

    @torch.no_grad()
    def transcribe_together(self, sounds: list[list[Pair]], max_tokens: list[int]) -> list[Writing]:
        """The greedy transcripts of several sounds, without drafts: a pass reads the weights once for all of them.

        Args:
            sounds: from `listen`, each of equally many frames.
            max_tokens: after which each ends.
        """
        made = [self.begin(sound, [], limit) for sound, limit in zip(sounds, max_tokens)]
        first = torch.tensor(self.config.suppress_first, device=self.embed_tokens.weight.device)
        rows, past = list(range(len(made))), None
        sound = [(torch.cat(keys), torch.cat(values)) for keys, values in (zip(*layer) for layer in zip(*sounds))]
        while rows:
            going = [made[row] for row in rows]
            logits, past = self(torch.tensor([one.unread for one in going], device=first.device), sound, past)
            if going[0].passes == 0:
                for one, chance in zip(going, logits[:, 0].softmax(-1)[:, self.config.no_speech].tolist()):
                    one.no_speech = chance
            last = logits[:, -1]
            last[:, self.banned] = -torch.inf
            if going[0].passes == 0:
                last[:, first] = -torch.inf
            sure, best = last.log_softmax(-1).max(-1)
            for one, token, chance in zip(going, best.tolist(), sure.tolist()):
                one.passes, one.sure, one.ended = one.passes + 1, [*one.sure, chance], token == self.config.end
                if not one.ended:
                    one.tokens, one.unread = [*one.tokens, token], [token]
            left = [at for at, one in enumerate(going) if not one.over]
            if len(left) < len(rows):
                rows = [rows[at] for at in left]
                sound, past = ([(keys[left], values[left]) for keys, values in pairs] for pairs in (sound, past))
        return made

    def transcribe(self, sound: list[Pair], draft: list[int], max_tokens: int = 120, look: int = 12) -> Transcript:
        """The greedy transcript at once: see `begin` and `advance`."""
        writing = self.begin(sound, draft, max_tokens, look)
        while not writing.over:
            self.advance(writing)
        return writing.transcript()


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
