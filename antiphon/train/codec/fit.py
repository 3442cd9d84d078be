"""What a codec can be given before any gradient:
principal components of speech, and directions in which phones differ.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from antiphon.audio.io import Audio
from antiphon.codecs.mini.model import MiniCodec
from antiphon.data.speech.utterances import SpeechSet
from antiphon.errors import ConfigError
from antiphon.models.tts.phonemes import phone_at

UNKNOWN = -1  # no phone, as nobody knows which
PHONES = 178  # size of the phoneme alphabet
POINTS = 4  # moments a frame at which the sounding phone is asked


def principal_components(x: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """The mean [dim] and the first principal components [number, dim], orthonormal rows, of vectors [n, dim]."""
    mean = x.mean(0)
    centred = x - mean
    _, vectors = torch.linalg.eigh((centred.T @ centred).double() / len(x))
    return mean, vectors.flip(1)[:, :number].T.float().contiguous()


def phone_directions(latents: Tensor, phones: Tensor, number: int, ridge: float = 1e-3) -> Tensor:
    """Directions of the latent space that tell phones apart.

    The phones at `POINTS` moments are regressed on the latent; the predictions' principal components are linear in the
    latent.

    Args:
        latents: [n, dim], zero mean.
        phones: ids [n, POINTS].
        number: of directions.

    Returns:
        [number, dim]; distances along them are distances between posteriors.
    """
    targets = F.one_hot(phones, PHONES).float().flatten(1)
    targets = targets - targets.mean(0)
    gram = (latents.T @ latents / len(latents)).double()
    gram += ridge * gram.diagonal().mean() * torch.eye(len(gram))
    weights = torch.linalg.solve(gram, (latents.T @ targets / len(latents)).double())
    # The predictions' principal components, without their large and singular covariance.
    components = torch.linalg.svd(torch.linalg.cholesky(gram).T @ weights, full_matrices=False)[2][:number]
    return (components @ weights.T).float()


def speech_frames(codec: MiniCodec, sets: Sequence[SpeechSet], count: int) -> tuple[Tensor, Tensor]:
    """Spectral patches [n, patch] of the sets' first utterances, about `count` frames in even shares, and the phones in
    them [n, POINTS], `UNKNOWN` where a set has no times of phones."""
    patches, phones = [], []
    for speech in sets:
        total = 0
        for said, samples in speech:
            audio = Audio(torch.from_numpy(samples), speech.sample_rate).resample(codec.sample_rate).samples
            patch = codec.patches(audio[None, None])[0]
            sounding = np.full(len(patch) * POINTS, UNKNOWN)
            if said.phonemes and len(said.phonemes) == len(said.phoneme_ends):
                times = (np.arange(len(sounding)) + 0.5) / POINTS / codec.frame_rate
                sounding = phone_at(said.phonemes, np.asarray(said.phoneme_ends), said.phonemes_start, times)
            patches.append(patch)
            phones.append(torch.from_numpy(sounding).view(-1, POINTS))
            total += len(patch)
            if total >= count // len(sets):
                break
    return torch.cat(patches), torch.cat(phones)


@torch.no_grad()
def fit_codec(codec: MiniCodec, sets: Sequence[SpeechSet], count: int, start: MiniCodec | None = None) -> None:
    """Sets the codec's linear encoder, its inverse, and all codebooks from speech.

    Args:
        codec: fresh; or with the decoder of `start`.
        sets: of speech; one at least with the times of phones, from which the first codebook learns.
        count: frames to fit on.
        start: a codec whose decoder goes on being used: what reads the latent is turned so that it reads the new one,
            as nearly as a linear map can tell the old latent from it.

    Raises:
        ConfigError: no set has times of phones, or a start whose encoder isn't linear.
    """
    if len(codec.encoder) and start is not None:
        raise ConfigError("model.fit with model.start is for linear encoders; set model.codec.encoder_depth=0")
    codec.eval()  # codebooks are set here, not averaged
    patches, phones = speech_frames(codec, sets, count)
    known = phones[:, 0] != UNKNOWN
    if not known.any():
        raise ConfigError("model.fit: no set of data.speech has times of phones; `antiphon data align` finds them")
    mean, components = principal_components(patches, codec.config.latent)
    scale = ((patches - mean) @ components.T).square().mean().sqrt()  # latents of about unit size
    codec.analysis.weight.copy_(components / scale)
    codec.analysis.bias.copy_(-components @ mean / scale)
    codec.synthesis.weight.copy_(components.T * scale)
    codec.synthesis.bias.copy_(mean)

    latents = codec.analysis(patches)
    if start is not None:
        _turn_decoder(codec, start, latents, start.analysis(speech_frames(start, sets, count)[0]))
    directions = phone_directions(latents[known], phones[known], codec.config.semantic_inner)
    codec.semantic.inward.weight.copy_(directions)
    torch.nn.init.eye_(codec.acoustic.inward.weight)
    torch.nn.init.eye_(codec.acoustic.outward.weight)
    seen = codec.semantic.inward(latents)
    (book,) = codec.semantic.codebooks
    book.initialise(seen, rounds=12)
    codec.semantic.outward.weight.copy_(torch.linalg.lstsq(book(seen)[0], latents).solution.T)
    residual = latents - codec.semantic.decode(codec.semantic.encode(latents[None]))[0]
    for book in codec.acoustic.codebooks:
        book.initialise(residual, rounds=12)
        residual = residual - book(residual)[0]
    share = float(residual.square().mean() / latents.square().mean())
    print(
        f"fitted on {len(patches)} frames: {share:.3f} of the latent's variance is left after quantization", flush=True
    )
    codes = codec.quantize(latents[known][None])[0]
    told = [phone_information(level, phones[known][:, POINTS // 2]) for level in codes]
    print(
        "share of the phones' information in each codebook: " + " ".join(f"{value:.2f}" for value in told), flush=True
    )


def _turn_decoder(codec: MiniCodec, start: MiniCodec, latents: Tensor, before: Tensor) -> None:
    """Makes the decoder of `start`, which reads `before` [n, dim], read `latents` [n, dim] of the same frames."""
    rows = torch.cat([latents, torch.ones(len(latents), 1)], 1).double()
    turn, shift = torch.linalg.lstsq(rows, before.double()).solution.float().split([latents.shape[1], 1])
    first, read = codec.slow[0].conv, start.slow[0].conv
    first.weight.copy_(torch.einsum("oik,ji->ojk", read.weight, turn))
    first.bias.copy_(read.bias + read.weight.sum(-1) @ shift[0])
    codec.synthesis.weight.copy_(start.synthesis.weight @ turn.T)
    codec.synthesis.bias.copy_(start.synthesis.weight @ shift[0] + start.synthesis.bias)


def phone_information(codes: Tensor, phones: Tensor) -> float:
    """Phone-normalised mutual information: the share of the phones' entropy that the codes tell (Hsu et al. 2021,
    section IV-E).

    Args:
        codes, phones: ids [n].
    """
    joint = torch.zeros(int(codes.max()) + 1, int(phones.max()) + 1, dtype=torch.float64)
    joint.index_put_((codes, phones), torch.ones(len(codes), dtype=torch.float64), accumulate=True)
    joint /= len(codes)
    code, phone = joint.sum(1, keepdim=True), joint.sum(0, keepdim=True)
    there = joint > 0
    information = (joint * torch.log(joint / (code * phone)))[there].sum()
    entropy = -(phone * torch.log(phone))[phone > 0].sum()
    return float(information / entropy)
