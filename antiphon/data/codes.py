"""Sets of codes: what a codec made of recordings, with their texts and, where known, the times of their phones.

    for row, codes in CodeSet("codes"):       # row.id, row.text, row.phones; codes [codebooks, frames]
        ...

On disk it is a store (`antiphon.data.store`) of kind "codes", int16 or int32 [frames, codebooks], whose header says
which codec they are of. `antiphon tokenize` makes it, and every task that learns from codes reads it. One process
writes a set, however many encode for it: codes are small.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from antiphon.codecs.base import Tokenizer, code_fingerprint, has_codes_of
from antiphon.data.store import ArrayStore, ArrayWriter, kind_of, read_header
from antiphon.errors import DataError


@dataclass(frozen=True)
class CodecInfo:
    """Which codec codes are of.

    Attributes:
        codec: name or folder that it was loaded by.
        fingerprint: of those of its weights that codes depend on; "" where an old set doesn't know.
        sample_rate, channels: of the audio, Hz.
        frame_rate: frames a second.
        codebooks: codes a frame that are kept.
        codebook_size: codes in each codebook.
    """

    codec: str
    fingerprint: str
    sample_rate: int
    channels: int
    frame_rate: float
    codebooks: int
    codebook_size: int

    @classmethod
    def of(cls, codec: Tokenizer, name: str = "", codebooks: int | None = None) -> CodecInfo:
        """Those of a codec.

        Args:
            codec: a codec or semantic tokenizer.
            name: that it was loaded by.
            codebooks: how many are kept; None keeps all.

        Raises:
            DataError: it has fewer.
        """
        if codebooks is not None and codebooks > codec.codebooks:
            raise DataError(f"{name} has {codec.codebooks} codebooks, not {codebooks}: ask for fewer.")
        return cls(
            name, code_fingerprint(codec), int(codec.sample_rate), int(codec.channels), float(codec.frame_rate),
            codebooks or codec.codebooks, int(codec.codebook_size),
        )  # fmt: skip

    @classmethod
    def read(cls, header: dict[str, Any], codec: Tokenizer | None = None) -> CodecInfo:
        """What a store's header says; what an old one doesn't know is taken from `codec`."""
        found = asdict(cls.of(codec)) if codec is not None and not header.get("fingerprint") else {}
        return cls(**{each.name: header.get(each.name) or found.get(each.name) for each in fields(cls)})

    def as_noted(self, codec: Tokenizer, folder: Path | str) -> CodecInfo:
        """This, with the fingerprint by which a set in the folder notes the codec, where it is this codec's."""
        kind = kind_of(folder) if (Path(folder) / "set.json").is_file() else None
        known = str(read_header(Path(folder), kind).get("fingerprint") or "") if kind else ""
        return replace(self, fingerprint=known) if known and has_codes_of(codec, known) else self

    def check(self, codec: Tokenizer, where: Path | str) -> None:
        """Whether the codes are those of this codec.

        Raises:
            DataError: they are not.
        """
        if not has_codes_of(codec, self.fingerprint):
            raise DataError(
                f"{where} holds codes of {self.codec or 'a codec'} with other weights than this codec has: give the "
                "codec that they were made with, or make them anew."
            )
        if self.codebooks > codec.codebooks:
            raise DataError(
                f"The codes in {where} have {self.codebooks} codebooks, the codec {codec.codebooks}: give the codec "
                "that they were made with."
            )


def device_of(codec: Any) -> torch.device:
    """Where a codec's weights are."""
    weights = codec.parameters() if isinstance(codec, torch.nn.Module) else iter(())
    return next(weights, torch.zeros(0)).device


def check_codes(codes: NDArray, streams: int, codebook_size: int, name: str) -> NDArray:
    """Codes [streams, frames] as a store keeps them, [frames, streams] in 16 or 32 bits.

    Raises:
        DataError: another shape, or numbers that are no codes.
    """
    if codes.ndim != 2 or len(codes) != streams:
        raise DataError(f"Codes of {name}, {list(codes.shape)}, are not [{streams}, frames]: check the codec.")
    if codes.size and not 0 <= codes.min() <= codes.max() < codebook_size:
        raise DataError(f"Codes of {name} do not fit into codebooks of {codebook_size}.")
    return codes.T.astype(np.int16 if codebook_size <= 2**15 else np.int32)


@dataclass(frozen=True)
class Coded:
    """A line of the manifest.

    Attributes:
        id: unique in the set.
        text, voice: what is said, by whom; empty where not known.
        samples: length at the codec's sample rate.
        stamp: of the recording (`Recording.stamp`); empty in sets that older versions made.
        scales: of its chunks, where the codec has such (`ChunkedEncodec`): decoding needs them besides the codes.
        phones: (phone, start, end) in seconds, " " between words; empty where not known.
        context: what was said before it, oldest first (fields of an `utterances.Turn`); empty where not known.
        shard, offset, length: where its codes are; the length is in frames.
    """

    id: str
    text: str = ""
    voice: str = ""
    samples: int = 0
    stamp: str = ""
    scales: list[float] = field(default_factory=list)
    phones: list[tuple[str, float, float]] = field(default_factory=list)
    context: list[dict[str, str]] = field(default_factory=list)
    shard: str = ""
    offset: int = 0
    length: int = 0

    @property
    def frames(self) -> int:
        return self.length


class CodesWriter(ArrayWriter):
    """Adds codes to a set, creating it where there is none; a context manager.

    Args:
        folder: the set's.
        info: of which codec; must be the set's where it exists (but for its name).
        source: where the recordings are.
        lead: seconds of silence that are kept before the first phone, None for all (see `Recording.trimmed`).
        shard_frames, shard_seconds: as `ArrayWriter`.

    Raises:
        DataError: the set is of another codec, another process writes it, or the folder cannot be written.
    """

    def __init__(
        self, folder: str | Path, info: CodecInfo, source: str = "", lead: float | None = None,
        shard_frames: int = 100_000, shard_seconds: float = 300.0,
    ) -> None:  # fmt: skip
        self.info = info
        about = {**asdict(info), "source": source, "lead": lead}
        free = ("codec", "source")
        super().__init__(folder, "codes", about, free, 0, shard_frames, shard_seconds)

    def add(self, coded: Coded, codes: NDArray[np.integer]) -> None:
        """Adds the codes [codebooks, frames] of a recording."""
        rows = check_codes(codes, self.info.codebooks, self.info.codebook_size, coded.id)
        # Most codecs have no scales, most recordings no phones and no context: nothing is written of them then.
        super().add({k: v for k, v in vars(coded).items() if v or k not in ("scales", "phones", "context")}, rows)


class CodeSet:
    """Reads a set of codes, also while it is being written.

    Args:
        folder: the set's.
        codec: that they must be of, where given.

    Attributes:
        info: of which codec they are.
        rows: what it holds, in the order of writing.
        frames: of each recording, int64 [len].

    Raises:
        DataError: no set there, a broken one, or one of another codec.
    """

    def __init__(self, folder: str | Path, codec: Tokenizer | None = None) -> None:
        self.folder = Path(folder)
        self._store = ArrayStore(folder, "codes")
        self.info = CodecInfo.read(self._store.header, codec)
        if codec is not None:
            self.info.check(codec, folder)
        try:
            self.rows = [Coded(**row) for row in self._store.rows]
        except TypeError as error:
            raise DataError(f"{self.folder / 'manifest.jsonl'} is no list of codes ({error}): make it anew.") from None
        self.frames = np.array([row.length for row in self.rows], np.int64)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> NDArray[np.int64]:
        """The codes of a recording, [codebooks, frames]."""
        return self._store.array(vars(self.rows[index])).T.astype(np.int64)

    def __iter__(self) -> Iterator[tuple[Coded, NDArray[np.int64]]]:
        return ((row, self[i]) for i, row in enumerate(self.rows))
