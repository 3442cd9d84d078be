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
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional as F

from antiphon.encoders.whisper.tokens import WhisperTokens
from antiphon.errors import ModelError
from antiphon.nn.cpu import PackedLinear, PackedWeights, product
from antiphon.nn.weights import NoInitWeights, fill

_PREFIX = "model.decoder."
START = (50258, 50259, 50359, 50363)  # <|startoftranscript|> <|en|> <|transcribe|> <|notimestamps|>
END = 50257
NO_SPEECH = 50362
SPACE = 220
# Heads (layer, head) that look at the sound of the token which is about to be written, of the model with so many
# layers, heads and tokens. Those of base were found on speech whose times are known: words begin within 35 ms (median),
# with those that OpenAI publishes 145 ms early. Other folders name theirs in generation_config.json.
ALIGNMENT_HEADS = {(6, 8, 51865): ((3, 3), (4, 0), (4, 1), (4, 3), (5, 4))}


@dataclass(frozen=True)
class DecoderConfig:
    """Shape of the decoder, and which tokens it may not write.

    Attributes:
        start: what a transcript begins with, where nothing else is asked for: English.
        suppress: tokens that it never writes; `suppress_first`: that it doesn't begin with; `foreign`: that aren't
            English.
        languages: the tokens of its languages; () for one that can't tell them.
        alignment_heads: (layer, head) of those whose attention follows the sound; () for all of the upper half.
    """

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
    foreign: tuple[int, ...] = ()
    languages: tuple[int, ...] = ()
    alignment_heads: tuple[tuple[int, int], ...] = ()


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


@dataclass(frozen=True)
class Reading:
    """What the decoder makes of a transcript that it is given, for each of its tokens and the end.

    Attributes:
        hidden: the decoder's state from which the token is predicted, [T + 1, width].
        attention: of the alignment heads, how much each looks at each frame meanwhile, [heads, T + 1, frames]; sums to
            1 over the frames.
        sure: log probabilities of the tokens and the end, [T + 1].
    """

    hidden: Tensor
    attention: Tensor
    sure: Tensor


Pair = tuple[Tensor, Tensor]  # keys and values [1, heads, frames, width / heads]


@dataclass
class Writing:
    """A transcript under way. `advance` replaces fields and never writes into one: a copy is a snapshot.

    Attributes:
        sound: from `WhisperDecoder.listen`.
        rest: of the draft, what stands after `tokens`.
        max_tokens: after which it ends.
        look: tokens of the draft that a pass checks, at most; `reach`: that the next one does.
        start: what it begins with; `english`: whether it may hold nothing else.
        unread: tokens that the decoder has yet to read; `past`: what it keeps of those before.
        tokens, sure: written so far, and their log probabilities, at last that of the end.
        rivals: what it would have written instead of each of them, with its log probability.
        passes, no_speech, ended: as in `Transcript`.
        languages: how likely each of the decoder's languages is, [languages]; None before the first pass.
    """

    sound: list[Pair]
    rest: list[int]
    max_tokens: int
    look: int
    start: tuple[int, ...]
    english: bool
    unread: list[int]
    reach: int
    past: list[Pair] | None = None
    tokens: list[int] = field(default_factory=list)
    sure: list[float] = field(default_factory=list)
    rivals: list[tuple[int, float]] = field(default_factory=list)
    passes: int = 0
    no_speech: float = 0.0
    ended: bool = False
    languages: Tensor | None = None

    @property
    def over(self) -> bool:
        """Nothing is left to write."""
        return self.ended or len(self.tokens) >= self.max_tokens

    def transcript(self) -> Transcript:
        """What stands there."""
        tokens = self.tokens[: self.max_tokens]
        sure = self.sure[: len(tokens) + self.ended]
        return Transcript(tokens, self.passes, self.no_speech, sum(sure) / max(1, len(sure)), self.ended)


def join_sound(first: list[Pair], second: list[Pair]) -> list[Pair]:
    """What the decoder's attention needs of one sound and then another."""
    return [(torch.cat([a, c], 2), torch.cat([b, d], 2)) for (a, b), (c, d) in zip(first, second)]


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

    def weights(self, x: Tensor, pair: Pair) -> Tensor:
        """How much x [B, T, width] looks at each key, [B, heads, T, keys]; sums to 1."""
        query = self._split(self.q_proj(x))
        return (query @ pair[0].transpose(2, 3) / query.shape[3] ** 0.5).softmax(-1)


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
        self, x: Tensor, past: Pair | None, sound: Pair, mask: Tensor, heard: Tensor | None,
        looks: list[Tensor] | None = None,
    ) -> tuple[Tensor, Pair]:  # fmt: skip
        """x [B, T, width] -> the same, and self-attention's keys and values, the past's included; how much it looks at
        each frame of the sound, [B, heads, T, frames], is added to `looks`, if that is given."""
        y = self.self_attn_layer_norm(x)
        new = self.self_attn.pair(y)
        pair = new if past is None else (torch.cat([past[0], new[0]], 2), torch.cat([past[1], new[1]], 2))
        x = x + self.self_attn(y, pair, mask)
        y = self.encoder_attn_layer_norm(x)
        if looks is not None:
            looks.append(self.encoder_attn.weights(y, sound))
        x = x + self.encoder_attn(y, sound, heard)
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
        foreign = banned.clone()
        foreign[list(config.foreign)] = True
        self.register_buffer("banned_in_english", foreign, persistent=False)
        self.packed: PackedWeights | None = None

    @classmethod
    def from_pretrained(cls, folder: Path | str, tokens: WhisperTokens | None = None) -> WhisperDecoder:
        """The decoder of a multilingual Whisper folder with `transformers`' keys, float32.

        Args:
            folder: config.json, model.safetensors and, if there is one, generation_config.json.
            tokens: of the folder's tokenizer; without them it knows no language but English, and writes it in any
                script.

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
            shape = (tree["decoder_layers"], tree["decoder_attention_heads"], tree["vocab_size"])
            config = DecoderConfig(
                width=tree["d_model"],
                layers=shape[0],
                heads=shape[1],
                inner=tree["decoder_ffn_dim"],
                vocabulary=shape[2],
                positions=tree["max_target_positions"],
                suppress=tuple(rules.get("suppress_tokens") or ()),
                suppress_first=tuple(rules.get("begin_suppress_tokens") or (SPACE, END)),
                alignment_heads=ALIGNMENT_HEADS.get(shape)
                or tuple((layer, head) for layer, head in rules.get("alignment_heads") or ()),
            )
            if tokens is not None and tokens.languages:
                config = replace(
                    config,
                    start=tokens.start(),
                    end=tokens.end,
                    no_speech=tokens.no_speech,
                    foreign=tokens.foreign,
                    languages=tuple(tokens.languages.values()),
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
        hidden, past = self.hidden(tokens, sound, past, heard)
        return self.logits(hidden), past

    def logits(self, hidden: Tensor) -> Tensor:
        """[B, T, width] -> [B, T, vocabulary]."""
        flat = product(hidden.flatten(0, 1), self.embed_tokens.weight, packed=self.packed)
        return flat.unflatten(0, hidden.shape[:2])

    def hidden(
        self, tokens: Tensor, sound: list[Pair], past: list[Pair] | None = None, heard: Tensor | None = None,
        looks: list[Tensor] | None = None,
    ) -> tuple[Tensor, list[Pair]]:  # fmt: skip
        """As `forward`, but the states that logits are made of, [B, T, width]; each layer adds to `looks`, if that is
        given, how much it looks at each frame of the sound, [B, heads, T, frames]."""
        before = past[0][0].shape[2] if past else 0
        count = tokens.shape[1]
        x = self.embed_tokens(tokens) + self.embed_positions.weight[before : before + count]
        mask = torch.ones(count, before + count, dtype=torch.bool, device=tokens.device).tril(before)
        kept = []
        for index, layer in enumerate(self.layers):
            x, pair = layer(x, past[index] if past else None, sound[index], mask, heard, looks)
            kept.append(pair)
        return self.layer_norm(x), kept

    def begin(
        self, sound: list[Pair], draft: list[int], max_tokens: int = 120, look: int = 12,
        start: tuple[int, ...] | None = None, english: bool = True,
    ) -> Writing:  # fmt: skip
        """A greedy transcript to be written by `advance`, found by checking a draft.

        Args:
            sound: from `listen`.
            draft: tokens that the transcript is likely to be; [] gives plain greedy decoding. It changes the work, not
                the result.
            max_tokens: after which it ends, whatever is left.
            look: tokens of the draft that are checked in one pass, at most.
            start: what it begins with, from `WhisperTokens.start`; None for English.
            english: hold it to plain English letters.
        """
        start = start or self.config.start
        room = self.config.positions - len(start) - 1
        return Writing(sound, list(draft), min(max_tokens, room), look, start, english, list(start), reach=look)

    @torch.no_grad()
    def advance(self, writing: Writing) -> None:
        """One pass through the decoder: checks the next tokens of the draft and writes the one after the right ones."""
        config, device = self.config, self.embed_tokens.weight.device
        guess = writing.rest[: min(writing.reach, writing.max_tokens - len(writing.tokens))]
        tokens = torch.tensor([writing.unread + guess], device=device)
        logits, past = self(tokens, writing.sound, writing.past)
        if writing.passes == 0:
            writing.no_speech = float(logits[0, 0].softmax(-1)[config.no_speech])
            writing.languages = self._languages(logits[0, 0])
        writing.passes += 1
        logits = logits[0, len(writing.unread) - 1 :]
        logits.masked_fill_(self._banned(writing), -torch.inf)
        if not writing.tokens:
            logits[0, torch.tensor(config.suppress_first, device=device)] = -torch.inf
        best = logits.argmax(-1).tolist()
        right = 0
        while right < len(guess) and best[right] == guess[right]:
            right += 1
        # Work on a token that is thrown away is wasted: trust a draft that was wrong for less, until it is right again.
        trusted = right == len(guess)
        writing.reach = min(writing.look, 2 * writing.reach) if trusted else max(2, right + 1)
        chances, likeliest = logits[: right + 1].log_softmax(-1).topk(2)
        writing.sure = writing.sure + chances[:, 0].tolist()
        writing.rivals = writing.rivals + list(zip(likeliest[:, 1].tolist(), chances[:, 1].tolist()))
        writing.tokens = writing.tokens + guess[:right]
        if best[right] == config.end:
            writing.ended = True
            return
        writing.tokens = writing.tokens + [best[right]]
        read = len(writing.start) + len(writing.tokens) - 1
        writing.past = [(keys[:, :, :read], values[:, :, :read]) for keys, values in past]
        writing.unread, writing.rest = [best[right]], realign(writing.rest[right:], best[right])

    @torch.no_grad()
    def advance_together(self, writings: list[Writing]) -> None:
        """Writes several transcripts to their ends: a pass reads the weights once for all of them.

        Args:
            writings: from `begin`, untouched since, without drafts, of equally many frames.
        """
        first = torch.tensor(self.config.suppress_first, device=self.embed_tokens.weight.device)
        going, past = list(writings), None
        sounds = [writing.sound for writing in writings]
        sound = [(torch.cat(keys), torch.cat(values)) for keys, values in (zip(*layer) for layer in zip(*sounds))]
        while going:
            logits, past = self(torch.tensor([one.unread for one in going], device=first.device), sound, past)
            last = logits[:, -1]
            for one, row, start in zip(going, last, logits[:, 0]):
                if one.passes == 0:
                    one.no_speech = float(start.softmax(-1)[self.config.no_speech])
                    one.languages = self._languages(start)
                    row[first] = -torch.inf
                row.masked_fill_(self._banned(one), -torch.inf)
            chances, likeliest = last.log_softmax(-1).topk(2)
            for one, (token, rival), (sure, less) in zip(going, likeliest.tolist(), chances.tolist()):
                one.sure, one.rivals = [*one.sure, sure], [*one.rivals, (rival, less)]
                one.passes, one.ended = one.passes + 1, token == self.config.end
                if not one.ended:
                    one.tokens, one.unread = [*one.tokens, token], [token]
            left = [at for at, one in enumerate(going) if not one.over]
            if len(left) < len(going):
                going = [going[at] for at in left]
                sound, past = ([(keys[left], values[left]) for keys, values in pairs] for pairs in (sound, past))

    def branch(self, writing: Writing, at: int) -> Writing:
        """Another transcript of the same sound, to be written by `advance`: it has the rival of token number `at`, and
        what stands behind that token is its draft.

        Args:
            writing: one that is over; stays as it is.
            at: below the number of its `rivals`.
        """
        rival, sure = writing.rivals[at]
        tokens, read = [*writing.tokens[:at], rival], len(writing.start) + at
        past = None
        if writing.past is not None:
            read = min(read, writing.past[0][0].shape[2])
            past = [(keys[:, :, :read], values[:, :, :read]) for keys, values in writing.past]
        return replace(
            writing,
            rest=writing.tokens[at + 1 :],
            unread=[*writing.start, *tokens][0 if past is None else read :],
            reach=writing.look,
            past=past,
            tokens=tokens,
            sure=[*writing.sure[:at], sure],
            rivals=list(writing.rivals[: at + 1]),
            ended=False,
        )

    def transcribe(self, sound: list[Pair], draft: list[int], max_tokens: int = 120, look: int = 12) -> Transcript:
        """The greedy transcript at once: see `begin` and `advance`."""
        writing = self.begin(sound, draft, max_tokens, look)
        while not writing.over:
            self.advance(writing)
        return writing.transcript()

    @torch.no_grad()
    def languages(self, sounds: list[list[Pair]]) -> Tensor:
        """How likely each of the decoder's languages is spoken in each sound, [sounds, languages]; sums to 1.

        Args:
            sounds: from `listen`, each of equally many frames.
        """
        sound = [(torch.cat(keys), torch.cat(values)) for keys, values in (zip(*layer) for layer in zip(*sounds))]
        begin = torch.tensor([self.config.start[:1]] * len(sounds), device=self.embed_tokens.weight.device)
        return torch.stack([self._languages(row) for row in self(begin, sound)[0][:, 0]])

    @torch.no_grad()
    def read(
        self, tokens: list[int], sound: list[Pair], frames: slice, start: tuple[int, ...] | None = None
    ) -> Reading:
        """Reads a transcript over, at once: what it thinks and where it looks.

        Args:
            tokens: of the transcript, without start and end.
            sound: from `listen`.
            frames: of the sound, those that were heard; where else it looks is left out.
            start: what the transcript began with.
        """
        start, looks = start or self.config.start, list[Tensor]()
        device = self.embed_tokens.weight.device
        hidden, _ = self.hidden(torch.tensor([[*start, *tokens]], device=device), sound, looks=looks)
        hidden = hidden[:, len(start) - 1 :]
        sure = self.logits(hidden)[0].log_softmax(-1).gather(1, torch.tensor([*tokens, self.config.end])[:, None])[:, 0]
        half = range(self.config.layers // 2, self.config.layers)
        heads = self.config.alignment_heads or [(layer, head) for layer in half for head in range(self.config.heads)]
        attention = torch.stack([looks[layer][0, head, len(start) - 1 :, frames] for layer, head in heads])
        return Reading(hidden[0], attention / attention.sum(-1, keepdim=True).clamp_min(1e-10), sure)

    def _banned(self, writing: Writing) -> Tensor:
        """Which tokens it may not write."""
        return self.banned_in_english if writing.english else self.banned

    def _languages(self, logits: Tensor) -> Tensor:
        """Logits of what follows the very first token, [vocabulary] -> [languages]."""
        return logits[list(self.config.languages)].softmax(-1)


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
