"""The ears: samples in as they come; text, and what the language model reads, out when the speaker is done.

    ears = Ears.from_pretrained(whisper, adapter, brain)
    state = ears.init_state()
    ears.step(samples, state)            # 16 kHz, as often and as many as one likes
    heard = ears.finish(state)           # .text, .tokens, .embeddings

While the speaker talks, the encoder runs block by block. At the end the adapter spells the language model's pieces by
CTC, and (unless `words="adapter"`) Whisper's own decoder checks that draft, which corrects it at the cost of a few
passes. The language model reads the embeddings of its own pieces of the text.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from safetensors import safe_open
from tokenizers import Tokenizer
from torch import Tensor, nn

from antiphon.audio import mel
from antiphon.audio.io import Audio
from antiphon.errors import AntiphonError
from antiphon.models.adapter import Adapter, Spelling
from antiphon.models.decoder import Pair, Transcript, WhisperDecoder, foreign_tokens, whisper_tokens
from antiphon.models.encoder import EncoderState, WhisperBlockEncoder
from antiphon.models.words import as_words

SILENT_PEAK = 1e-3  # nothing louder than -60 dB of full scale was said
NO_SPEECH, UNSURE = 0.6, -1.0  # above the one and below the other, nothing was said (Radford et al. 2022, section 4.5)
QUIET = 300  # frames (6 s) of silence that the decoder is shown after the speech
PAUSE = mel.SAMPLE_RATE * 3 // 10  # samples of silence that the encoder sees after the speech
TOKENS_A_SECOND = 8  # nobody speaks faster; a decoder that writes more is looping


class EarsError(AntiphonError):
    """Ears that lack a part, or sound that they cannot take."""


@dataclass(frozen=True)
class Heard:
    """What was said.

    Attributes:
        text: what was said, as one would write it.
        tokens: the language model's own segmentation of its words (`as_words`).
        embeddings: what the language model reads, [len(tokens), width].
        drafted: what the adapter alone heard.
    """

    text: str
    tokens: list[int]
    embeddings: Tensor
    drafted: str = ""


@dataclass
class EarsState:
    """One speaker's turn under way.

    Attributes:
        mel, encoder: where the spectrogram and the encoder stand.
        features: the encoder's, since it last started afresh (every 30 s), a list of [1, frames, width].
        sound: what the decoder's attention needs of them, per layer.
        draft: the decoder's tokens for what it has heard so far.
        read: encoder frames that `draft` is about.
        texts: of the 30 s windows that are over, (heard, drafted).
        peak: of all samples.
    """

    mel: mel.MelState
    encoder: EncoderState
    features: list[Tensor] = field(default_factory=list)
    sound: list[Pair] = field(default_factory=list)
    draft: list[int] = field(default_factory=list)
    read: int = 0
    texts: list[tuple[str, str]] = field(default_factory=list)
    peak: float = 0.0

    def clone(self) -> EarsState:
        """A snapshot that can go its own way."""
        return replace(
            self,
            encoder=self.encoder.clone(),
            features=list(self.features),
            sound=list(self.sound),
            draft=list(self.draft),
            texts=list(self.texts),
        )

    @property
    def frames(self) -> int:
        """Encoder frames of the current window."""
        return sum(part.shape[1] for part in self.features)


class Ears(nn.Module):
    """Encoder, adapter, piece vocabulary and, if words are to be checked, Whisper's decoder.

    Args:
        encoder: in blocks.
        adapter: CTC onto the language model's pieces; None where only the decoder is there.
        spelling: of the adapter's pieces.
        tokenizer: the language model's.
        embeddings: the language model's, [vocabulary, width]; shared with it, not copied.
        decoder: checks the draft; None leaves the adapter's words as they are.
        whisper: the decoder's tokenizer.

    Raises:
        EarsError: neither adapter nor decoder.
    """

    def __init__(
        self,
        encoder: WhisperBlockEncoder,
        adapter: Adapter | None,
        spelling: Spelling | None,
        tokenizer: Tokenizer,
        embeddings: Tensor,
        decoder: WhisperDecoder | None = None,
        whisper: Tokenizer | None = None,
    ) -> None:
        super().__init__()
        if (adapter is None or spelling is None) and (decoder is None or whisper is None):
            raise EarsError("Ears need an adapter with its spelling, a decoder with its tokenizer, or both.")
        self.encoder, self.adapter, self.decoder = encoder, adapter, decoder
        self.spelling, self.tokenizer, self.whisper = spelling, tokenizer, whisper
        self._quiet: list[
            Pair
        ] = []  # what the decoder needs of silence, see _learn_silence; the same for every speaker
        self.embeddings = embeddings  # a plain attribute: the language model's state dict holds it

    @classmethod
    def from_pretrained(
        cls,
        ears: Path | str,
        adapter: Path | str | None,
        brain: Path | str,
        words: str = "decoder",
        embeddings: Tensor | None = None,
    ) -> Ears:
        """Reads the ears from folders.

        Args:
            ears: Whisper's (config.json, model.safetensors, tokenizer.json).
            adapter: the adapter's; None does without.
            brain: the language model's, for its tokenizer.json and its embeddings.
            words: "decoder": Whisper's decoder checks what the adapter heard. "adapter": it does not.
            embeddings: the language model's, where they are in memory already.

        Raises:
            EarsError: an unknown `words`, or a folder that lacks what is needed.
        """
        if words not in ("decoder", "adapter"):
            raise EarsError(f"words is {words!r}: choose decoder or adapter.")
        ears, brain = Path(ears), Path(brain)
        try:
            written = (brain / "tokenizer.json").read_text(encoding="utf-8")
            if embeddings is None:
                with safe_open(brain / "model.safetensors", "pt") as file:
                    embeddings = file.get_tensor("model.embed_tokens.weight").float()
            whisper = Tokenizer.from_file(str(ears / "tokenizer.json")) if words == "decoder" else None
        except Exception as error:
            raise EarsError(f"{ears} and {brain} do not hold tokenizer.json and the embeddings: {error}") from error
        model, spelling = None, None
        if adapter is not None:
            model, ids = Adapter.from_pretrained(adapter)
            spelling = Spelling(written, model.config.merges, ids)
        decoder = WhisperDecoder.from_pretrained(ears, foreign_tokens(whisper)) if whisper is not None else None
        encoder = WhisperBlockEncoder.from_pretrained(ears)
        return cls(encoder, model, spelling, Tokenizer.from_str(written), embeddings, decoder, whisper).eval()

    @torch.no_grad()
    def init_state(self) -> EarsState:
        """The state before a turn's first sample. The first call takes a second or so more than the others."""
        if self.decoder is not None and not self._quiet:
            self._learn_silence()
        return EarsState(mel.init_state(1), self.encoder.init_state(1))

    @torch.no_grad()
    def step(self, samples: Tensor, state: EarsState, ahead: bool = True) -> None:
        """Takes samples; encodes the blocks that they complete.

        Args:
            samples: float [N] at 16 kHz, any N.
            state: changed.
            ahead: let the decoder read what is complete already (live), so that less is left to do at the end; a waste
                of work if nobody waits for the end. What is heard stays the same.
        """
        if samples.ndim != 1:
            raise EarsError(f"Ears take mono samples [N], not {list(samples.shape)}.")
        self._take(samples, state, last=False)
        if ahead:
            self._read_ahead(state)

    @torch.no_grad()
    def finish(self, state: EarsState) -> Heard:
        """What was said up to here. The state stays as it is, so that a speaker who only paused can go on."""
        state = state.clone()
        self._take(torch.zeros(PAUSE), state, last=True)
        self._close(state)
        text = " ".join(heard for heard, _ in state.texts if heard)
        drafted = " ".join(draft for _, draft in state.texts if draft)
        tokens = self.tokenizer.encode(as_words(text), add_special_tokens=False).ids if text else []
        return Heard(text, tokens, self.embeddings[torch.tensor(tokens, dtype=torch.long)], drafted)

    def hear(self, audio: Audio) -> Heard:
        """What is said in a recording of any sample rate, mono or not."""
        state = self.init_state()
        self.step(audio.mono().resample(mel.SAMPLE_RATE).samples.float(), state, ahead=False)
        return self.finish(state)

    def _take(self, samples: Tensor, state: EarsState, last: bool) -> None:
        """Runs spectrogram and encoder; closes a window of 30 s where one is full."""
        if samples.numel():
            state.peak = max(state.peak, float(samples.abs().max()))
        new, state.mel = mel.step(samples[None], state.mel, last=last, bands=self.encoder.config.bands)
        features = self.encoder.step(new, state.encoder, last=last)
        while features.shape[1]:
            room = self.encoder.config.positions - state.frames
            self._append(features[:, :room], state)
            features = features[:, room:]
            if state.frames == self.encoder.config.positions:
                self._close(state)

    def _append(self, features: Tensor, state: EarsState) -> None:
        state.features.append(features)
        if self.decoder is not None:
            new = self.decoder.listen(features)
            state.sound = [
                (torch.cat([old[0], pair[0]], 2), torch.cat([old[1], pair[1]], 2))
                for old, pair in zip(state.sound, new)
            ] or new

    def _read_ahead(self, state: EarsState) -> None:
        """Writes down what was said in the blocks that are complete, as a draft."""
        if self.decoder is None or self.whisper is None or state.frames == state.read or state.peak < SILENT_PEAK:
            return
        tokens = self._write(state, state.draft).tokens
        # The last word may be cut off in the middle, and the full stop after it is only where the sound stops.
        state.draft, state.read = cut_loop(tokens)[:-2], state.frames

    def _close(self, state: EarsState) -> None:
        """Ends a window: its text goes to `texts`."""
        if not state.features or state.peak < SILENT_PEAK:
            state.features, state.sound, state.draft, state.read = [], [], [], 0
            return
        features, drafted = torch.cat(state.features, dim=1), ""
        if self.adapter is not None and self.spelling is not None:
            drafted = self.spelling.text(self.adapter.best(features)[0])
        text = drafted
        if self.decoder is not None and self.whisper is not None:
            draft = join_drafts(state.draft, whisper_tokens(self.whisper, drafted))
            transcript = self._write(state, draft)
            if (
                not transcript.ended
            ):  # it loops, as Whisper does now and then: more silence tells it better that it is over
                transcript = self._write(state, [], self.encoder.config.positions)
            text = self.whisper.decode(cut_loop(transcript.tokens)).strip()
            if transcript.no_speech > NO_SPEECH and transcript.confidence < UNSURE:
                text = ""
        state.texts.append((text, drafted))
        state.features, state.sound, state.draft, state.read = [], [], [], 0

    def _write(self, state: EarsState, draft: list[int], quiet: int = QUIET) -> Transcript:
        """The decoder's transcript of the current window, with `quiet` frames of silence after it.

        Whisper learnt on windows of 30 s, padded with silence: where the sound simply stops, it does not know that it
        may, and loops. Encoding silence after every turn would be most of the work. But silence is always the same: it
        is encoded once, and the decoder is shown the part of it that would follow the speech.
        """
        assert self.decoder is not None
        after = self._silence(state.frames, quiet)
        sound = [(torch.cat([a, c], 2), torch.cat([b, d], 2)) for (a, b), (c, d) in zip(state.sound, after)]
        return self.decoder.transcribe(sound, draft, 6 + TOKENS_A_SECOND * state.frames // 50)

    def _silence(self, start: int, frames: int) -> list[Pair]:
        """What the decoder needs of silence, for `frames` frames from `start` on (fewer at the window's end)."""
        return [
            (keys[:, :, start : start + frames], values[:, :, start : start + frames]) for keys, values in self._quiet
        ]

    def _learn_silence(self) -> None:
        """Encodes a silent window, whole as Whisper saw it: with one encoded in blocks 3 of 12 turns looped."""
        assert self.decoder is not None
        config = self.encoder.config
        whole = WhisperBlockEncoder(replace(config, block=config.positions, right=0)).eval()
        whole.load_state_dict(self.encoder.state_dict(), assign=True)
        silent = torch.full((1, config.bands, 2 * config.positions), (mel.FLOOR - 8.0 + 4.0) / 4.0)
        self._quiet = self.decoder.listen(whole(silent))


def cut_loop(tokens: list[int], least: int = 4) -> list[int]:
    """Ends a transcript where it begins to say again what it has just said.

    >>> cut_loop([5, 1, 2, 3, 4, 1, 2, 3, 4, 1, 2])
    [5, 1, 2, 3, 4]
    """
    for length in range(least, len(tokens) // 2 + 1):
        for start in range(len(tokens) - 2 * length + 1):
            if tokens[start : start + length] == tokens[start + length : start + 2 * length]:
                return tokens[: start + length]
    return tokens


def join_drafts(early: list[int], whole: list[int]) -> list[int]:
    """A good draft of the beginning, then what a worse draft of the whole says after it.

    >>> join_drafts([1, 2, 3], [1, 9, 3, 4, 5])
    [1, 2, 3, 4, 5]
    """
    if not early:
        return list(whole)
    for reach in (3, 2, 1):
        tail = early[-reach:]
        for start in range(len(whole) - reach, -1, -1):
            if len(early) >= reach and whole[start : start + reach] == tail:
                return early + whole[start + reach :]
    return list(early)
