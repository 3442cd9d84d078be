"""Trains semantic tokens by recognition: Whisper must still write down what was said, with a quantizer in its middle.

The quantizer is first fitted to what it will get (principal components; a codebook by k-means), so that training
starts from a Whisper that understands something already. Then the recognition loss (the decoder's cross-entropy,
teacher forcing; and, if wanted, CTC over letters on the encoder's output) reaches the quantizer and the layers behind.
"""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soxr
import torch
from omegaconf import MISSING
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from antiphon.codecs.semantic.supervised import SupervisedConfig, SupervisedTokenizer
from antiphon.data.speech.utterances import SpeechSet
from antiphon.encoders.base import FRAME_SAMPLES, length_mask
from antiphon.encoders.whisper.decoder import WhisperDecoder
from antiphon.encoders.whisper.encoder import attention_mask
from antiphon.encoders.whisper.tokens import whisper_tokens
from antiphon.errors import ConfigError
from antiphon.hub import folder as find
from antiphon.models.asr.recognizer import TOKENS_A_SECOND
from antiphon.nn.quantize import FSQ
from antiphon.train.asr.align import word_errors
from antiphon.train.checkpoint import has_checkpoint
from antiphon.train.codec.fit import principal_components
from antiphon.train.config import StageConfig
from antiphon.train.letters import LETTERS, letters_loss, spelt
from antiphon.train.prepare import speech_sets

IGNORED = -100


class TokenizerRecognizer(nn.Module):
    """A tokenizer and what makes it learn: Whisper's decoder and, with `ctc`, a linear layer onto letters."""

    def __init__(self, tokenizer: SupervisedTokenizer, decoder: WhisperDecoder, ctc: bool):
        super().__init__()
        self.tokenizer, self.decoder = tokenizer, decoder
        self.letters = nn.Linear(tokenizer.config.width, len(LETTERS) + 1) if ctc else None


def decoder_logits(decoder: WhisperDecoder, tokens: Tensor, features: Tensor, frames: Tensor) -> Tensor:
    """The decoder's logits of what follows each token, for rows of different length.

    Args:
        decoder: Whisper's.
        tokens: [batch, length]; what comes after a row's end doesn't matter.
        features: the encoder's output [batch, longest, width].
        frames: of each row [batch].

    Returns:
        [batch, length, vocabulary].
    """
    heard = attention_mask(frames, features.shape[1])
    return decoder(tokens, decoder.listen(features), heard=heard)[0]


@torch.no_grad()
def fit_bottleneck(tokenizer: SupervisedTokenizer, latents: Tensor) -> float:
    """Sets the quantizer and the maps around it from what it will get.

    Args:
        tokenizer: fresh.
        latents: [n, width], see `SupervisedTokenizer.lower`.

    Returns:
        The share of their variance, averaged over dimensions, that is left over after quantization.
    """
    part, spread = tokenizer.bottleneck, latents.std(0)  # a few dimensions of Whisper are a hundred times the others
    mean, components = principal_components(latents / spread, part.inward.out_features)
    inner = (latents / spread - mean) @ components.T
    # FSQ wants each dimension spread over its levels; a codebook wants distances as they are, of about unit size.
    scale = inner.std(0) if isinstance(part.quantizer, FSQ) else inner.std().expand(inner.shape[1])
    part.inward.weight.copy_(components / scale[:, None] / spread)
    part.inward.bias.copy_(-(components / scale[:, None]) @ mean)
    inner = part.inward(latents)
    if isinstance(part.quantizer, FSQ):  # what best gives the latents back from grid points
        points = torch.cat([part.quantizer(inner)[0], torch.ones(len(inner), 1)], 1)
        solution = torch.linalg.lstsq(points, latents).solution
        part.outward.weight.copy_(solution[:-1].T)
        part.outward.bias.copy_(solution[-1])
    else:
        part.quantizer.initialise(inner, rounds=16)
        part.outward.weight.copy_(components.T * scale * spread[:, None])
        part.outward.bias.copy_(mean * spread)
    again = part.decode(part.encode(latents[None]))[0]
    return float((((again - latents) / spread).square()).mean())


@dataclass
class SupervisedModel:
    """The quantizer in Whisper's middle; see `SupervisedConfig`."""

    whisper: str = MISSING
    """A part's name, folder or hub id."""
    ctc: bool = False
    """Whether letters are recognized from the encoder's output as well."""
    layer: int = SupervisedConfig.layer
    """The quantizer stands behind so many layers."""
    pool: int = SupervisedConfig.pool
    """Frames of the encoder (50 a second) that are averaged into one code."""
    quantizer: str = SupervisedConfig.quantizer
    """"vq" (a codebook with moving averages) or "fsq" (a fixed grid)."""
    dim: int = SupervisedConfig.dim
    """Width of the codes of a "vq"."""
    codebook_size: int = SupervisedConfig.codebook_size
    """Their number."""
    levels: tuple[int, ...] = SupervisedConfig.levels
    """Of each dimension of an "fsq"."""
    restore: bool = SupervisedConfig.restore
    """Repeat each code to the encoder's own rate before the layers behind it."""
    block: int = SupervisedConfig.block
    """Frames of the encoder in a block that doesn't see later ones, 0 for no such limit."""


@dataclass
class SupervisedData:
    """The speech that is written down."""

    speech: list[str] = MISSING
    """Recordings with texts, as `antiphon.data.recordings.recordings` takes them; one or several places."""
    hours: float | None = None
    """Use only the first hours of each."""
    seconds: tuple[float, float] = (0.5, 15.0)
    """Shortest and longest utterance."""
    silence: float = 0.5
    """Seconds put after each utterance."""
    held: int = 0
    """Last utterances of each set that are kept apart for measuring."""
    fit: int = 20000
    """Code frames that the quantizer is fitted to."""
    keep: bool = False
    """Whether what layers that don't learn make of an utterance stays in memory (50 kB a second of speech with Whisper
    base) and isn't made again."""


class SupervisedTask:
    """See the module, and the Task protocol of the engine."""

    Model, Data = SupervisedModel, SupervisedData

    def __init__(self, config: StageConfig):
        self.config, data, model = config, config.data, dataclasses.asdict(config.model)
        whisper, ctc = find(model.pop("whisper")), model.pop("ctc")
        self.words = Tokenizer.from_file(str(whisper / "tokenizer.json"))
        torch.manual_seed(config.seed)
        tokenizer, decoder = SupervisedTokenizer.from_whisper(whisper, **model), WhisperDecoder.from_pretrained(whisper)
        self.model = TokenizerRecognizer(tokenizer, decoder, ctc)
        self.keep, self.kept = data.keep, {}  # utterance -> what frozen layers gave [frames, width]
        self.silence, held, seconds = data.silence, data.held, data.seconds
        places = speech_sets(data.speech, SupervisedTokenizer.sample_rate, config.out)
        self.sets = [SpeechSet(each.folder, hours=data.hours, seconds=seconds) for each in places]
        spoken = [[(speech, i) for i, said in enumerate(speech.utterances) if said.text] for speech in self.sets]
        self.held = [place for each in spoken for place in each[len(each) - min(held, len(each) // 2) :]]
        kept = {(id(speech), index) for speech, index in self.held}
        self.known = [place for each in spoken for place in each if (id(place[0]), place[1]) not in kept]
        self.known.sort(key=lambda place: place[0].utterances[place[1]].duration)
        if not self.known:
            raise ConfigError(
                f"data.speech: no utterance of {seconds[0]} to {seconds[1]} s with a text in {data.speech}"
            )
        if config.init or has_checkpoint(config.out):
            self._go_on()
        else:
            self._fit(data.fit)

    def _go_on(self) -> None:
        """Weights follow: the codebook must not be set anew from the first batch."""
        if hasattr(self.model.tokenizer.bottleneck.quantizer, "ready"):
            self.model.tokenizer.bottleneck.quantizer.ready.fill_(True)
        if self.config.init:  # what `export` wrote has the tokenizer's own names
            self.model.tokenizer.load_state_dict(
                SupervisedTokenizer.from_pretrained(self.config.init).state_dict(), strict=True
            )
            decoder = Path(self.config.init) / "recognizer.safetensors"
            if decoder.is_file():
                self.model.load_state_dict({k: v.float() for k, v in load_file(decoder).items()}, strict=False)
            self.config.init = None

    @torch.no_grad()
    def _fit(self, count: int) -> None:
        tokenizer, seen, total, step = self.model.tokenizer, [], 0, 0
        while total < count:
            batch = self.batch(1_000_000 + step)
            latents, frames = tokenizer.lower(batch["audio"], batch["lengths"])
            seen.append(latents[length_mask(-(-frames // tokenizer.config.pool), latents.shape[1])])
            total, step = total + len(seen[-1]), step + 1
        left = fit_bottleneck(tokenizer, torch.cat(seen))
        print(f"quantizer fitted to {total} frames: {left:.3f} of their variance is left over", file=sys.stderr)

    def sound(self, place: tuple[SpeechSet, int]) -> np.ndarray:
        """An utterance's samples at 16 kHz with silence after them, float32 [n]."""
        speech, index = place
        samples = soxr.resample(speech.samples(index), speech.sample_rate, SupervisedTokenizer.sample_rate)
        return np.pad(samples, (0, int(self.silence * SupervisedTokenizer.sample_rate))).astype(np.float32)

    def batch(self, step: int) -> dict[str, Any]:
        """Utterances of like length, drawn by the seed and the step alone."""
        generator, size = np.random.default_rng([self.config.seed, step]), self.config.batch
        middle = int(generator.integers(len(self.known)))
        low = max(0, min(middle - 2 * size, len(self.known) - 4 * size))
        window = np.arange(low, min(len(self.known), low + 4 * size))
        picked = generator.choice(window, size, replace=len(window) < size)
        return {**self.collate([self.known[i] for i in picked]), "places": torch.from_numpy(picked)}

    def collate(self, places: list[tuple[SpeechSet, int]]) -> dict[str, Any]:
        """audio [batch, samples], lengths [batch]; tokens [batch, length] that the decoder reads, targets that it
        should write (IGNORED where there is none); letters [batch, length] and their counts [batch]."""
        start, end = self.model.decoder.config.start, self.model.decoder.config.end
        sounds = [torch.from_numpy(self.sound(place)) for place in places]
        texts = [speech.utterances[index].text for speech, index in places]
        written = [torch.tensor([*start, *whisper_tokens(self.words, text), end]) for text in texts]
        letters = [spelt(text) for text in texts]
        pad = torch.nn.utils.rnn.pad_sequence
        targets = pad([tokens[1:] for tokens in written], True, IGNORED)
        targets[:, : len(start) - 1] = IGNORED  # the language and the task are given, not recognized
        return {
            "audio": pad(sounds, True),
            "lengths": torch.tensor([len(sound) for sound in sounds]),
            "tokens": pad([tokens[:-1] for tokens in written], True, end),
            "targets": targets,
            "letters": pad(letters, True),
            "spelt": torch.tensor([len(each) for each in letters]),
        }

    def _latents(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """What the quantizer gets, see `SupervisedTokenizer.lower`; with `keep`, layers that don't learn run only for
        utterances that are met for the first time."""
        tokenizer, audio, lengths = self.model.tokenizer, batch["audio"], batch["lengths"]
        encoder, last = tokenizer.encoder, tokenizer.config.layer
        parts = [[encoder.conv1, encoder.conv2], *([layer] for layer in encoder.layers[:last])]
        learns = [any(p.requires_grad for module in part for p in module.parameters()) for part in parts]
        first = (learns + [True]).index(True) - 1  # so many layers stay as they are
        if not self.keep or first < 0:
            return tokenizer.lower(audio, lengths)
        places, frames = batch["places"].tolist(), -(-lengths // FRAME_SAMPLES)
        if new := [row for row, place in enumerate(places) if place not in self.kept]:
            with torch.no_grad():
                made = tokenizer.below(*tokenizer.stem(audio[new], lengths[new]), 0, first)
            for row, x in zip(new, made):
                self.kept[places[row]] = x[: frames[row]].half().cpu()
        x = [self.kept[place].to(audio.device, torch.float32) for place in places]
        x = torch.nn.utils.rnn.pad_sequence(x, batch_first=True)
        return tokenizer.pooled(tokenizer.below(x, frames, first, last), frames), frames

    def losses(self, batch: dict[str, Any], group: str = "model") -> dict[str, Tensor]:
        """recognition: the decoder's cross-entropy in nats a token; commitment; ctc, in nats a letter."""
        tokenizer = self.model.tokenizer
        x, frames = self._latents(batch)
        x, _, commitment = tokenizer.bottleneck(x, length_mask(-(-frames // tokenizer.config.pool), x.shape[1]))
        features, frames = tokenizer.upper(x, frames)
        logits = decoder_logits(self.model.decoder, batch["tokens"], features, frames)
        losses = {"recognition": F.cross_entropy(logits.float().flatten(0, 1), batch["targets"].flatten())}
        if commitment.requires_grad:
            losses["commitment"] = commitment
        if self.model.letters is not None:
            losses["ctc"] = letters_loss(self.model.letters(features), frames, batch["letters"], batch["spelt"])
        return losses

    @torch.no_grad()
    def hear(self, place: tuple[SpeechSet, int], through: bool = True) -> tuple[str, Tensor]:
        """What the decoder writes, greedily, of an utterance; and its codes [frames].

        Args:
            place: of the utterance.
            through: the quantizer; else past it.
        """
        tokenizer, decoder = self.model.tokenizer, self.model.decoder
        device = decoder.embed_tokens.weight.device
        samples = torch.from_numpy(self.sound(place))[None].to(device)
        codes = tokenizer.encode(samples[:, None])[:, 0]
        features = tokenizer.continuous(samples)[0]
        if through:
            features = tokenizer.features(codes[:, None])[:, : features.shape[1]]
        # The true text as the draft: it changes the work, not the result.
        draft = whisper_tokens(self.words, place[0].utterances[place[1]].text)
        most = 6 + TOKENS_A_SECOND * features.shape[1] // 50
        written = decoder.transcribe(decoder.listen(features), draft, most)
        return self.words.decode(written.tokens).strip(), codes[0]

    def sample(self, step: int, folder: Path) -> None:
        """Writes what is heard of the utterances kept apart, through the codes, with the word error rate."""
        if not self.held:
            print(f"step {step}: nothing to hear, no utterance is kept apart (data.held)", file=sys.stderr, flush=True)
            return
        folder.mkdir(parents=True, exist_ok=True)
        self.model.eval()
        texts = [speech.utterances[index].text for speech, index in self.held]
        heard, codes = zip(*(self.hear(place) for place in self.held))
        errors, used = word_errors(texts, list(heard)), len(torch.cat(codes).unique())
        size = self.model.tokenizer.codebook_size
        lines = [f"step {step}: WER {errors:.3f} of {len(texts)} utterances, {used} of {size} codes in use", ""]
        lines += [f"{text}\n  {other}" for text, other in zip(texts, heard)]
        (folder / f"{step:06d}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        print(lines[0], file=sys.stderr, flush=True)

    def export(self, folder: Path) -> None:
        """Writes the tokenizer's folder and, where they train, decoder and letters too (recognizer.safetensors)."""
        self.model.tokenizer.save_pretrained(folder)
        others = [(name, p) for name, p in self.model.named_parameters() if not name.startswith("tokenizer.")]
        if any(parameter.requires_grad for _, parameter in others):
            weights = {name: p.detach().half().contiguous().cpu() for name, p in others}
            save_file(weights, Path(folder) / "recognizer.safetensors")
