"""Conversations as codes: both channels encoded once, kept on disk, mapped into memory.

    codes = encode_conversations("talks/index.jsonl", codec, "codes")     # goes on where it was stopped
    codes[0].codes                                                        # int16 [own, then user; frames]

Frame t is the sound of samples [t n, (t + 1) n), n = sample rate / frame rate; the last one is filled up with silence.
A folder holds:

    conversations.json    what it is of: codec, fingerprint of its weights, rates, codebooks
    codes.i16             int16, little endian: frame after frame, the own codes of it and then the user's
    index.jsonl           one line a conversation: id, first frame, frames, seconds, words, events, info

Codes are on the disk before their line is, so a kill loses the conversation that was being encoded and no more.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from antiphon.codecs.base import Tokenizer
from antiphon.data.dialogue.format import MODEL, SPEAKERS, Conversation, Entry, Event, Word, fitted, read_index
from antiphon.data.doubts import Doubts
from antiphon.data.shards import append_durably, complete_lines
from antiphon.errors import DataError

try:
    import fcntl
except ImportError:  # not on Windows, where two writers of one folder go unnoticed
    fcntl = None

FORMAT = 1
DTYPE = np.dtype("<i2")


@dataclass(frozen=True)
class About:
    """What a folder of codes is of.

    Attributes:
        fingerprint: of the codec's weights.
        sample_rate: Hz.
        frame_rate: frames a second.
        codebooks: codes a frame and channel.
        codebook_size: codes in each codebook.
    """

    fingerprint: str
    sample_rate: int
    frame_rate: float
    codebooks: int
    codebook_size: int


@dataclass
class CodedConversation:
    """A conversation on the frame clock.

    Attributes:
        codes: int16 [2 codebooks, frames]: the model's, then the user's.
        words, events: times in seconds.
        seconds: length of the sound.
        frame_rate: frames a second.
        id: its name.
        info: as in `Conversation`.
    """

    codes: NDArray[np.int16]
    words: list[Word] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    seconds: float = 0.0
    frame_rate: float = 12.5
    id: str = ""
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def frames(self) -> int:
        return self.codes.shape[1]

    @property
    def codebooks(self) -> int:
        """Codes a frame and channel."""
        return self.codes.shape[0] // 2


class ConversationCodes:
    """Reads such a folder, also while it is being written; what came since shows after `refresh`.

    Args:
        folder: where they are.

    Attributes:
        about: what they are of.
        frames: of each conversation [len].

    Raises:
        DataError: nothing there, or broken.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.about = read_about(self.folder)
        self.refresh()

    def refresh(self) -> None:
        """Takes in what was written since."""
        self.rows = complete_lines(self.folder / "index.jsonl")[0]
        self.frames = np.array([row["frames"] for row in self.rows], np.int64)
        self._codes: NDArray[np.int16] | None = None

    @property
    def codes(self) -> NDArray[np.int16]:
        """All of them, [2 codebooks, frames], mapped into memory."""
        if self._codes is None:
            path, streams = self.folder / "codes.i16", 2 * self.about.codebooks
            total = int(self.frames.sum())
            if not total:
                return np.zeros((streams, 0), np.int16)
            try:
                self._codes = np.memmap(path, DTYPE, "r", shape=(total, streams)).T
            except (OSError, ValueError) as error:
                raise DataError(f"{path} cannot be read ({error}): encode the conversations anew.") from None
        return self._codes

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> CodedConversation:
        row = self.rows[index]
        return CodedConversation(
            self.codes[:, row["start"] : row["start"] + row["frames"]],
            [Word(*word) for word in row["words"]],
            [Event(*event) for event in row["events"]],
            row["seconds"],
            self.about.frame_rate,
            row["id"],
            row["info"],
        )

    def __iter__(self) -> Iterator[CodedConversation]:
        return (self[index] for index in range(len(self)))

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_codes": None}  # other processes map their own

    @property
    def seconds(self) -> float:
        """Of sound, all together."""
        return float(sum(row["seconds"] for row in self.rows))


def read_about(folder: Path) -> About:
    """What the codes in a folder are of.

    Raises:
        DataError: none there, or of another format.
    """
    path = folder / "conversations.json"
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        version = fields.pop("format")
        if version == FORMAT:
            return About(**fields)
    except FileNotFoundError:
        raise DataError(f"{folder} holds no codes of conversations (no conversations.json).") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} cannot be read ({error!r}): encode the conversations anew.") from None
    raise DataError(f"{path} has format {version}, this version reads {FORMAT}: encode them anew.")


class CodesWriter:
    """Encodes conversations into a folder, creating it where there is none; a context manager; one at a time.

    Args:
        folder: where they are kept.
        codec: encodes; must be the one that the folder is of where it exists.

    Attributes:
        done: ids that are there already.

    Raises:
        DataError: the folder is of another codec, or another process writes it.
    """

    def __init__(self, folder: str | Path, codec: Tokenizer) -> None:
        self.folder, self.codec, self.about = Path(folder), codec, about_codec(codec)
        if self.about.codebook_size > 2**15:
            raise DataError(f"Codebooks of {self.about.codebook_size} codes do not fit into 16 bits.")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        if fcntl is not None:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise DataError(f"Another process is writing {self.folder}: wait for it.") from None
        path = self.folder / "conversations.json"
        if not path.exists():
            fresh = path.with_suffix(".part")
            fresh.write_text(json.dumps({"format": FORMAT, **asdict(self.about)}, indent=2) + "\n", encoding="utf-8")
            fresh.replace(path)
        if (there := read_about(self.folder)) != self.about:
            raise DataError(f"{self.folder} holds codes of {there}, not of {self.about}: use another folder.")
        index, codes = self.folder / "index.jsonl", self.folder / "codes.i16"
        rows, end = complete_lines(index)
        if index.exists() and end < index.stat().st_size:
            os.truncate(index, end)  # a line that a kill cut off
        self.done = {row["id"] for row in rows}
        self._frames = rows[-1]["start"] + rows[-1]["frames"] if rows else 0
        codes.touch()
        size = self._frames * 2 * self.about.codebooks * DTYPE.itemsize
        if codes.stat().st_size < size:
            raise DataError(f"{codes} holds less than its index tells of: encode the conversations anew.")
        os.truncate(codes, size)

    def add(self, identity: str, conversation: Conversation) -> None:
        """Encodes one, resampled to the codec's rate where it has another; on return it is safe.

        Raises:
            DataError: it is there already.
        """
        self.add_coded(encode_conversation(conversation, self.codec, identity))

    def add_coded(self, coded: CodedConversation) -> None:
        """Adds one that has been encoded; on return it is safe.

        Raises:
            DataError: it is there already, or its codes are not those of the codec.
        """
        streams, codes = 2 * self.about.codebooks, np.asarray(coded.codes)
        if coded.id in self.done:
            raise DataError(f"{self.folder} has {coded.id!r} already: check `done` before encoding it.")
        if codes.ndim != 2 or len(codes) != streams:
            raise DataError(f"{coded.id}: codes {list(codes.shape)} are not [{streams}, frames].")
        if codes.size and not 0 <= codes.min() <= codes.max() < self.about.codebook_size:
            raise DataError(f"{coded.id}: codes do not fit into codebooks of {self.about.codebook_size}.")
        with (self.folder / "codes.i16").open("ab") as file:
            file.write(np.ascontiguousarray(codes.T, DTYPE).tobytes())
            file.flush()
            os.fsync(file.fileno())
        row = {
            "id": coded.id,
            "start": self._frames,
            "frames": codes.shape[1],
            "seconds": round(coded.seconds, 4),
            "words": [[w.text, round(w.start, 4), round(w.end, 4), w.speaker] for w in coded.words],
            "events": [[e.kind, round(e.start, 4), round(e.end, 4), e.speaker, e.note] for e in coded.events],
            "info": coded.info,
        }
        append_durably(self.folder / "index.jsonl", json.dumps(row, ensure_ascii=False) + "\n")
        self._frames += codes.shape[1]
        self.done.add(coded.id)

    def close(self) -> None:
        """Lets other writers in."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> CodesWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def about_codec(codec: Tokenizer) -> About:
    """What codes of a codec are of.

    Raises:
        DataError: a codec that is not mono, or whose frames are not whole numbers of samples.
    """
    from antiphon.data.tokenize.encode import fingerprint

    if getattr(codec, "channels", 1) != 1 or codec.sample_rate / codec.frame_rate % 1:
        raise DataError("Conversations need a codec of one channel with whole numbers of samples a frame.")
    return About(fingerprint(codec), codec.sample_rate, codec.frame_rate, codec.codebooks, codec.codebook_size)


@torch.no_grad()
def encode_pair(model: NDArray[np.float32], user: NDArray[np.float32], codec: Tokenizer) -> NDArray[np.int16]:
    """Two channels [samples] of one length at the codec's rate -> codes [2 codebooks, frames].

    Raises:
        DataError: the codec gives fewer frames than the sound has.
    """
    frames = -(-len(model) // round(codec.sample_rate / codec.frame_rate))
    device = next((p.device for p in codec.parameters()), "cpu") if hasattr(codec, "parameters") else "cpu"
    both = torch.from_numpy(np.stack([model, user]).astype(np.float32))[:, None].to(device)
    codes = codec.encode(both).cpu().numpy()
    if codes.shape[-1] < frames:
        raise DataError(f"The codec gives {codes.shape[-1]} frames for a sound of {frames}.")
    return codes[..., :frames].reshape(-1, frames).astype(np.int16)


def encode_conversations(
    source: Iterable[tuple[str, Conversation]] | str | Path, codec: Tokenizer, folder: str | Path
) -> ConversationCodes:
    """Encodes conversations that are not in the folder yet; tells in the log what a model would learn wrongly.

    Args:
        source: (id, conversation), or an index or its folder (see `antiphon.data.dialogue.format`), of which only what
            is missing is read; all of its sidecars before any sound.
        codec: encodes both channels; other sample rates are resampled to its.
        folder: of the result.

    Raises:
        DataError: as `CodesWriter`, `read_index`, `Entry.load`.
    """
    with CodesWriter(folder, codec) as writer, Doubts() as doubts:
        names: dict[str, str] = {}
        if isinstance(source, (str, Path)):
            missing = [entry for entry in read_index(source) if entry.id not in writer.done]
            _check_files(missing)
            names = {entry.id: entry.name for entry in missing}
            bar = tqdm(missing, desc="codes", file=sys.stderr, mininterval=5)
            source = ((entry.id, entry.load(doubts=doubts)) for entry in bar)
        for identity, talk in source:
            if identity in writer.done:
                continue
            name = names.get(identity, identity)
            if identity not in names:  # those of an index are fitted as they are read
                talk = replace(talk, words=fitted(talk.words, talk.seconds, name, doubts))
            _doubt(talk, name, codec.sample_rate, doubts)
            writer.add(identity, talk)
    return ConversationCodes(folder)


def _check_files(entries: list[Entry]) -> None:
    """Finds out before hours of work which files are missing or have sidecars that make no sense.

    Raises:
        DataError: about the first one, and how many more there are.
    """
    wrong: list[str] = []
    for entry in entries:
        try:
            entry.notes()
            if not entry.path.is_file():
                raise DataError(f"{entry.name}: no such file.")
        except DataError as error:
            wrong.append(str(error))
    if wrong:
        more = f" {len(wrong) - 1} more of {len(entries)} conversations have such faults." if len(wrong) > 1 else ""
        raise DataError(wrong[0] + more)


def _doubt(talk: Conversation, name: str, sample_rate: int, doubts: Doubts) -> None:
    """Tells of a conversation from which a model would learn something else than to converse."""
    said = [word for word in talk.words if word.speaker == MODEL]
    if talk.words and not said:
        doubts.tell(
            "no word is SPEAKER_MAIN's",
            f"{name}: none of its {len(talk.words)} words is SPEAKER_MAIN's, so a model would learn to say nothing: "
            "label the left channel's speaker so in the sidecar.",
        )
    if said and all(word.end <= word.start for word in said):
        doubts.tell(
            "none of SPEAKER_MAIN's words lasts any time",
            f"{name}: none of SPEAKER_MAIN's words lasts any time (its end is its start): such words are not learnt.",
        )
    for speaker, channel in zip(SPEAKERS, (talk.model, talk.user)):
        if not channel.any() and any(word.speaker == speaker for word in talk.words):
            doubts.tell(
                "a channel is silent though its speaker has words",
                f"{name}: the {speaker}'s channel is silent, though the {speaker} has words: are the channels the "
                "right way round (left the model, right the user)?",
            )
    if talk.model.any() and np.array_equal(talk.model, talk.user):
        doubts.tell(
            "both channels are the same sound",
            f"{name}: both channels are the same sound: the speakers are not apart, and a model would hear itself.",
        )
    if talk.sample_rate < sample_rate:
        doubts.tell(
            "a lower sample rate than the codec's",
            f"{name} has {talk.sample_rate} Hz, the codec {sample_rate}: resampled, it stays duller than speech at "
            "the codec's rate.",
        )


def encode_conversation(talk: Conversation, codec: Tokenizer, identity: str = "") -> CodedConversation:
    """One of them; see `encode_pair`."""
    import soxr

    channels = [talk.model, talk.user]
    if talk.sample_rate != codec.sample_rate:
        channels = [soxr.resample(channel, talk.sample_rate, codec.sample_rate) for channel in channels]
    codes = encode_pair(channels[0], channels[1], codec)
    return CodedConversation(codes, talk.words, talk.events, talk.seconds, codec.frame_rate, identity, talk.info)
