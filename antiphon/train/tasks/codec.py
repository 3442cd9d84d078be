"""Trains the mini codec: the encoder and the codebooks are fitted, the decoder learns to reconstruct, later
against an adversary.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from torch import Tensor, nn

from antiphon.codecs.mini import MiniCodec, MiniCodecConfig
from antiphon.data.shards import SpeechSet
from antiphon.train.config import StageConfig
from antiphon.train.fit import fit_codec
from antiphon.train.spectral import MultiScaleMel, SpectrogramDiscriminator, adversarial_losses, discriminator_loss


class CodecModel(nn.Module):
    """The codec and, where one is wanted, its adversary."""

    def __init__(self, codec: MiniCodec, adversary: SpectrogramDiscriminator | None):
        super().__init__()
        self.codec = codec
        if adversary is not None:
            self.adversary = adversary


class CodecTask:
    """See the module. Recipe fields:

    model.codec: fields of MiniCodecConfig. model.adversary: whether to train against a discriminator.
    data.speech: folders of shards; data.hours: use only the first hours of each. data.frames: code frames a crop.
    data.codec: a codec folder to start from; else data.fit frames of the first set fit the encoder and the codebooks.
    data.dropout: share of rows that leave out a random number of the last codebooks.
    Codebooks learn by moving averages only while the encoder trains (`trainable` matches "codec.analysis.*").
    """

    def __init__(self, config: StageConfig):
        self.config, self.data = config, config.data
        self.speech = [SpeechSet(folder, hours=self.data.get("hours")) for folder in self.data["speech"]]
        if start := self.data.get("codec"):
            codec = MiniCodec.from_pretrained(start)
        else:
            codec = MiniCodec(MiniCodecConfig(**config.model.get("codec", {})))
            if not (Path(config.out) / "checkpoint.pt").exists():
                fit_codec(codec, self.speech[0], int(self.data["fit"]))
        gan = config.model.get("adversary", False)
        self.model = CodecModel(codec, SpectrogramDiscriminator() if gan else None)
        self.players = {"model": ["codec.*"], "adversary": ["adversary.*"]} if gan else {"model": ["codec.*"]}
        self.mel = MultiScaleMel(codec.sample_rate)
        self.frames, self.frame = int(self.data["frames"]), codec.config.samples_per_frame
        self._made: tuple[Tensor, Tensor] | None = None

    def batch(self, step: int) -> dict[str, Any]:
        rng = np.random.default_rng((self.config.seed, step))
        picked = [self.speech[rng.integers(len(self.speech))] for _ in range(self.config.batch)]
        crops = [speech.crop(self.frames * self.frame, rng)[0] for speech in picked]
        levels = self.model.codec.codebooks
        used = np.where(rng.random(len(crops)) < self.data["dropout"], rng.integers(1, levels + 1, len(crops)), levels)
        return {"audio": torch.from_numpy(np.stack(crops)), "used": torch.from_numpy(used)}

    def losses(self, batch: dict[str, Any], player: str) -> dict[str, Tensor]:
        target = batch["audio"]
        if player == "adversary":
            made, target = self._made
            return {"discriminator": discriminator_loss(self.model.adversary(made)[0], self.model.adversary(target)[0])}
        codec, target = self.model.codec, target[:, None]
        learns = codec.analysis.weight.requires_grad
        codec.train(learns)  # codebooks
        with torch.set_grad_enabled(learns):
            quantized = codec.quantized(codec.latents(target), batch["used"])
        made, losses = codec.guided(quantized.latents, target)
        made = made[:, 0]
        target = target[:, 0, : made.shape[-1]]
        mel, convergence = self.mel(made, target)
        losses |= {"mel": mel, "convergence": convergence}
        if learns:
            losses["commitment"] = quantized.commitment
        if hasattr(self.model, "adversary"):
            fake = self.model.adversary(made)
            with torch.no_grad():
                real = self.model.adversary(target)
            losses |= adversarial_losses(fake, real)
            self._made = (made.detach(), target)
        return losses

    def sample(self, step: int, folder: Path) -> None:
        """Three utterances before and after the codec, with STOI, on stderr and as wav."""
        from pystoi import stoi

        folder.mkdir(parents=True, exist_ok=True)
        codec, scores, codes = self.model.codec, [], []
        for index in range(6):
            samples = self.speech[0].samples(index, 0, 6 * codec.sample_rate)
            audio = torch.from_numpy(samples)[None, None].to(self.mel.bank_512.device)
            codes.append(codec.encode(audio)[0])
            made = codec.decode(codes[-1][None])[0, 0, : len(samples)].float().cpu().numpy()
            scores.append(stoi(samples, made, codec.sample_rate))
            if index < 3:
                soundfile.write(folder / f"{step:06d}-{index}.wav", made, codec.sample_rate)
        use = [len(torch.cat(codes, -1)[level].unique()) for level in range(codec.codebooks)]
        print(
            f"sample {step}: STOI {np.mean(scores):.3f}, codes in use {use} of {torch.cat(codes, -1).shape[-1]} frames",
            flush=True,
        )

    def export(self, folder: Path) -> None:
        self.model.codec.save_pretrained(folder)
