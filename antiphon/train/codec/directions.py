"""In which directions of a speech encoder's features phones differ most: linear discriminant analysis.

    directions = phone_directions(features, [SpeechSet("speech")], 40, utterances=400)     # [width, 40]
    values @ directions                                    # within a phone, of unit variance in each direction

Most of what features tell is not which phone sounds: who speaks, how loud, how fast. Clusters of all there is are spent
on that too; clusters in these directions tell phones apart (semantic tokens by supervision, in its plainest form).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import soxr
import torch
from torch import Tensor
from tqdm import tqdm

from antiphon.data.speech.utterances import SpeechSet
from antiphon.encoders.base import SpeechFeatures
from antiphon.errors import ConfigError
from antiphon.models.tts.phonemes import phone_at

FEWEST = 20  # frames of a phone that counts
SHRINKAGE = 1e-3  # of the covariance towards a sphere, as many features say nearly the same


def phone_directions(
    features: SpeechFeatures,
    sets: Sequence[SpeechSet],
    directions: int,
    utterances: int = 400,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Finds them.

    Args:
        features: of speech.
        sets: of speech whose phonemes' times are known (`antiphon data speak --voice hibari`).
        directions: how many, the best first; fewer than there are phones.
        utterances: to look at, drawn from the sets in even shares.
        seed: of the draw.
        device: where the features are computed.

    Returns:
        float32 [features.width, directions], on the CPU.

    Raises:
        ConfigError: no such times, more directions than phones, or scikit-learn is missing.
    """
    try:
        from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    except ImportError as error:
        raise ConfigError("directions of phones need scikit-learn: pip install 'antiphon[semantic]'") from error
    values, phones = phone_frames(features, sets, utterances, seed, device)
    kept = np.bincount(phones)[phones] >= FEWEST
    known = len(np.unique(phones[kept]))
    if directions >= known:
        raise ConfigError(f"model.directions is {directions}: it must be below the {known} phones that were heard")
    found = LinearDiscriminantAnalysis("eigen", shrinkage=SHRINKAGE).fit(values[kept], phones[kept])
    return torch.from_numpy(found.scalings_[:, :directions].astype(np.float32))


@torch.no_grad()
def phone_frames(
    features: SpeechFeatures, sets: Sequence[SpeechSet], utterances: int, seed: int, device: torch.device | str
) -> tuple[np.ndarray, np.ndarray]:
    """Features [n, width] of utterances, and which phone sounds in the middle of each frame [n]; args as above."""
    generator, values, phones = np.random.default_rng(seed), [], []
    for number in tqdm(range(utterances), desc="  phones", leave=False):
        speech = sets[number % len(sets)]
        place = int(generator.integers(len(speech)))
        said = speech.utterances[place]
        if not said.phonemes or len(said.phonemes) != len(said.phoneme_ends):
            raise ConfigError(
                f"data.speech: {speech.folder} has no times of phonemes, which model.directions needs: make it with "
                "antiphon data speak --voice hibari, or set model.directions=0"
            )
        samples = soxr.resample(speech.samples(place), speech.sample_rate, features.sample_rate).astype(np.float32)
        rows, counts = features(torch.from_numpy(samples)[None].to(device), torch.tensor([len(samples)], device=device))
        rows = rows[0, : int(counts[0])].float().cpu().numpy()
        middles = (np.arange(len(rows)) + 0.5) / features.frame_rate
        values.append(rows)
        phones.append(phone_at(said.phonemes, np.asarray(said.phoneme_ends), said.phonemes_start, middles))
    return np.concatenate(values), np.concatenate(phones)
