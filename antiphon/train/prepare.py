"""What a task makes on disk before it starts: made by one process, and not changed under a run that goes on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import torch.distributed as dist

from antiphon.data.speech.gather import speech_set
from antiphon.data.speech.utterances import SpeechSet
from antiphon.errors import ConfigError
from antiphon.train.checkpoint import has_checkpoint


@contextlib.contextmanager
def preparing(out: Path | str) -> Iterator[bool]:
    """Around the making of sets; all processes but the first wait until that one is done.

    Args:
        out: the run's folder.

    Yields:
        Whether what is there is to be taken as it is: by those that waited, and by a run that goes on, whose batches
        must not change.
    """
    shared = dist.is_initialized() and dist.get_world_size() > 1
    follows = shared and dist.get_rank() > 0
    if follows:
        dist.barrier()
    yield follows or has_checkpoint(out)
    if shared and not follows:
        dist.barrier()


def speech_sets(places: list[str], sample_rate: int, out: Path | str) -> list[SpeechSet]:
    """Each place's recordings as a speech set; those that are none are copied into the run's folder first.

    Args:
        places: what `antiphon.data.recordings.recordings` takes, one or several.
        sample_rate: of copies, Hz.
        out: the run's folder.

    Raises:
        ConfigError: no place.
        DataError: one without recordings that can be read.
    """
    if not places:
        raise ConfigError("data.speech names no recordings; give a folder of sound files (data.speech=FOLDER)")
    with preparing(out) as resumed:
        return [
            speech_set(place, sample_rate, Path(out) / "speech" / str(number), resumed=resumed)
            for number, place in enumerate(places)
        ]
