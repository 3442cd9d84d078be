"""Dialogues as codes: both channels encoded once, kept on disk, mapped into memory.

    codes = encode_dialogues("talks/index.jsonl", codec, "codes")         # goes on where it was stopped
    codes[0].codes                                                        # int16 [own, then user; frames]

Frame t is the sound of samples [t n, (t + 1) n), n = sample rate / frame rate; the last one is filled up with silence.
On disk it is a store (`antiphon.data.store`) of kind "dialogues": int16 [frames, 2 codebooks], the own codes of a frame
and then the user's; the manifest has words, events and info.
"""

from __future__ import annotations

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
from antiphon.data.codes import CodecInfo, check_codes, device_of
from antiphon.data.dialogue.format import MODEL, SPEAKERS, Dialogue, Entry, Event, Word, fitted, read_index
from antiphon.data.doubts import Doubts
from antiphon.data.store import ArrayStore, ArrayWriter, kind_of
from antiphon.errors import DataError


@dataclass
class CodedDialogue:
    """A conversation on the frame clock.

    Attributes:
        codes: int16 [2 codebooks, frames]: the model's, then the user's.
        words, events: times in seconds.
        seconds: length of the sound.
        frame_rate: frames a second.
        id: its name.
        info: as in `Dialogue`.
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


class DialogueCodes:
    """Reads such a set, also while it is being written; what came since shows after `refresh`.

    Args:
        folder: where it is.
        codec: that the codes must be of, where given.

    Attributes:
        info: of which codec they are.
        frames: of each dialogue, int64 [len].

    Raises:
        DataError: nothing there, broken, or codes of another codec.
    """

    def __init__(self, folder: str | Path, codec: Tokenizer | None = None) -> None:
        self.folder = Path(folder)
        self._store = ArrayStore(folder, "dialogues")
        self.info = CodecInfo.read(self._store.header)
        if codec is not None:
            self.info.check(codec, folder)

    def refresh(self) -> None:
        """Takes in what was written since."""
        self._store.refresh()

    @property
    def frames(self) -> NDArray[np.int64]:
        return np.array([row["length"] for row in self._store.rows], np.int64)

    @property
    def ids(self) -> list[str]:
        return [row["id"] for row in self._store.rows]

    def __len__(self) -> int:
        return len(self._store)

    def __getitem__(self, index: int) -> CodedDialogue:
        row = self._store.rows[index]
        return CodedDialogue(
            self._store.array(row).T,
            [Word(*word) for word in row["words"]],
            [Event(*event) for event in row["events"]],
            row["seconds"],
            self.info.frame_rate,
            row["id"],
            row["info"],
        )

    def __iter__(self) -> Iterator[CodedDialogue]:
        return (self[index] for index in range(len(self)))

    @property
    def seconds(self) -> float:
        """Of sound, all together."""
        return float(sum(row["seconds"] for row in self._store.rows))


class DialogueCodesWriter(ArrayWriter):
    """Encodes dialogues into a folder, creating it where there is none; a context manager; one at a time.

    Args:
        folder: where they are kept.
        codec: encodes; must be the one that the folder is of where it exists.
        name: that the codec was loaded by.

    Raises:
        DataError: a codec that is not mono or whose frames are not whole numbers of samples, the folder is of another
            codec, or another process writes it.
    """

    def __init__(self, folder: str | Path, codec: Tokenizer, name: str = "") -> None:
        self.codec, self.info = codec, CodecInfo.of(codec, name).as_noted(codec, folder)
        if self.info.channels != 1 or codec.sample_rate / codec.frame_rate % 1:
            raise DataError("Dialogues need a codec of one channel with whole numbers of samples a frame.")
        super().__init__(folder, "dialogues", asdict(self.info), ("codec",))

    def add_sound(self, identity: str, conversation: Dialogue) -> None:
        """Encodes one, resampled to the codec's rate where it has another."""
        self.add_coded(encode_dialogue(conversation, self.codec, identity))

    def add_coded(self, coded: CodedDialogue) -> None:
        """Adds one that has been encoded.

        Raises:
            DataError: it is there already, or its codes are not those of the codec.
        """
        rows = check_codes(np.asarray(coded.codes), 2 * self.info.codebooks, self.info.codebook_size, coded.id)
        row = {
            "id": coded.id,
            "seconds": round(coded.seconds, 4),
            "words": [[w.text, round(w.start, 4), round(w.end, 4), w.speaker] for w in coded.words],
            "events": [[e.kind, round(e.start, 4), round(e.end, 4), e.speaker, e.note] for e in coded.events],
            "info": coded.info,
        }
        self.add(row, rows)


@torch.no_grad()
def encode_pair(model: NDArray[np.float32], user: NDArray[np.float32], codec: Tokenizer) -> NDArray[np.int16]:
    """Two channels [samples] of one length at the codec's rate -> codes [2 codebooks, frames].

    Raises:
        DataError: the codec gives fewer frames than the sound has.
    """
    frames = -(-len(model) // round(codec.sample_rate / codec.frame_rate))
    both = torch.from_numpy(np.stack([model, user]).astype(np.float32))[:, None].to(device_of(codec))
    codes = codec.encode(both).cpu().numpy()
    if codes.shape[-1] < frames:
        raise DataError(f"The codec gives {codes.shape[-1]} frames for a sound of {frames}.")
    return codes[..., :frames].reshape(-1, frames).astype(np.int16)


def encode_dialogues(
    source: Iterable[tuple[str, Dialogue]] | str | Path, codec: Tokenizer, folder: str | Path, name: str = ""
) -> DialogueCodes:
    """Encodes conversations that are not in the folder yet; tells in the log what a model would learn wrongly.

    Args:
        source: (id, conversation), or an index or its folder (see `antiphon.data.dialogue.format`), of which only what
            is missing is read; all of its sidecars before any sound.
        codec: encodes both channels; other sample rates are resampled to its.
        folder: of the result.
        name: that the codec was loaded by.

    Raises:
        DataError: as `DialogueCodesWriter`, `read_index`, `Entry.load`.
    """
    with DialogueCodesWriter(folder, codec, name) as writer, Doubts() as doubts:
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
            place = names.get(identity, identity)
            if identity not in names:  # those of an index are fitted as they are read
                talk = replace(talk, words=fitted(talk.words, talk.seconds, place, doubts))
            _doubt(talk, place, codec.sample_rate, doubts)
            writer.add_sound(identity, talk)
    return DialogueCodes(folder)


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


def _doubt(talk: Dialogue, name: str, sample_rate: int, doubts: Doubts) -> None:
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


def encode_dialogue(talk: Dialogue, codec: Tokenizer, identity: str = "") -> CodedDialogue:
    """One of them; see `encode_pair`."""
    import soxr

    channels = [talk.model, talk.user]
    if talk.sample_rate != codec.sample_rate:
        channels = [soxr.resample(channel, talk.sample_rate, codec.sample_rate) for channel in channels]
    codes = encode_pair(channels[0], channels[1], codec)
    return CodedDialogue(codes, talk.words, talk.events, talk.seconds, codec.frame_rate, identity, talk.info)


def dialogue_codes(
    place: str | Path, codec: Tokenizer, name: str, out: str | Path, resumed: bool = False
) -> DialogueCodes:
    """The codes of dialogues: those that are there if `place` is a set of them, else made in `out` first.

    Args:
        place: a set of codes, or an index of two-channel recordings or its folder.
        codec: that they are of, or are made by.
        name: that it was loaded by.
        out: the folder of the set that is made.
        resumed: take the set in `out` as it is, if there is one.

    Raises:
        DataError: codes of another codec; or as `encode_dialogues`.
    """
    if kind_of(place) == "dialogues":
        return DialogueCodes(place, codec)
    if resumed and kind_of(out) == "dialogues":
        return DialogueCodes(out, codec)
    return encode_dialogues(place, codec, out, name)
