"""Speech recognition: samples in as they come, text out when the speaker is done.

    recognizer = Recognizer.from_pretrained(whisper)
    state = recognizer.init_state()
    recognizer.step(samples, state)      # 16 kHz, as often and as many as one likes
    heard = recognizer.finish(state)     # .text

A voice activity detector says whether anybody spoke at all. While the speaker talks, the encoder runs block by block
and Whisper's decoder drafts what was said so far. A window that is over (the speaker is done, or it is long and was
cut where it is quietest) is encoded once more, whole, and the decoder checks the draft against it: blocks that see
little of what follows cost three words in a hundred on voices that Whisper finds hard. Where there is no draft yet,
an adapter, if there is one, spells one by CTC. The language model reads the text, so any will do.

Each step does a bounded amount of this work, so that sound never waits; the rest is done in the steps after it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from antiphon.audio import mel
from antiphon.audio.io import Audio
from antiphon.audio.pauses import quietest
from antiphon.audio.vad import CHUNK, SileroState, SileroVad
from antiphon.encoders.base import FRAME_SAMPLES
from antiphon.encoders.whisper.decoder import Pair, WhisperDecoder, Writing, foreign_tokens, whisper_tokens
from antiphon.encoders.whisper.encoder import EncoderState, WhisperBlockEncoder
from antiphon.errors import ModelError
from antiphon.models.asr.adapter import Adapter, Spelling
from antiphon.models.asr.transcripts import cut_loop, join_drafts, misses_words, was_nothing, was_spoken
from antiphon.models.scene.scene import Scene
from antiphon.nn.state import fork

RATE = mel.SAMPLE_RATE
WINDOW_SHARE, CUT_SHARE = 26 / 30, 15 / 30  # of the encoder's positions: a window is cut between the two
SILENCE_SECONDS = 3.0  # that the encoder sees after a window, so that the decoder knows that it is over
SHORT_SECONDS, LEAD_SECONDS = 3.0, 0.1  # a word that begins at once is heard better after a moment of silence
TOKENS_A_SECOND = 8  # nobody speaks faster; a decoder that writes more is looping
MIN_SPLIT_SECONDS = 4.0  # a window of which words are missing is heard in halves, down to this
TOGETHER = 4  # windows that are written down at once, where nobody waits for the first
UNIT_SECONDS = 0.04  # of new sound that allow for one unit of work: a layer of the encoder, a pass of the decoder


@dataclass(frozen=True)
class Heard:
    """What was said.

    Attributes:
        text: what was said, as one would write it.
        embeddings: what the language model reads instead of the text, [T, width]; None where it reads the text.
        drafted: what the adapter alone heard.
        scene: what else was heard; None where nothing listens for it (a recognizer doesn't).
    """

    text: str
    embeddings: Tensor | None = None
    drafted: str = ""
    scene: Scene | None = None


@dataclass
class Window:
    """A stretch of at most 30 s that is being written down. Fields are replaced and never written into.

    Attributes:
        samples: [n] at 16 kHz.
        voice: of each of the detector's chunks, how likely it is speech.
        draft: tokens that the transcript is likely to be.
        hidden: the encoder's activations after `layers` of its layers; None before the first.
        writing: the decoder's transcript under way; None before the encoder is done.
        drafted: what the adapter alone heard.
    """

    samples: Tensor
    voice: Tensor
    draft: list[int] = field(default_factory=list)
    hidden: Tensor | None = None
    layers: int = 0
    writing: Writing | None = None
    drafted: str = ""

    @property
    def frames(self) -> int:
        """Encoder frames that the samples reach into."""
        return -(-len(self.samples) // FRAME_SAMPLES)

    def clone(self) -> Window:
        """A snapshot that can go its own way."""
        return replace(self, writing=replace(self.writing) if self.writing else None)


@dataclass
class RecognizerState:
    """One speaker's turn under way. Fields are replaced and never written into: a copy is a snapshot.

    Attributes:
        vad: where the voice activity detector stands.
        mel, encoder: where the spectrogram and the encoder in blocks stand.
        begun: the sample of the turn at which the current window begins.
        samples: of the current window, [n] at 16 kHz; `taken`: how many of them the spectrogram has.
        voice: of each of the detector's chunks since `begun`, how likely it is speech.
        sound: what the decoder's attention needs of the encoder's `frames` of this window, per layer.
        draft: the decoder's tokens for what was said so far; `writing`: while they are written, of `reading` frames.
        closed: windows that are over and not written down yet, oldest first.
        texts: of the windows that are, what was heard and what was drafted.
    """

    vad: SileroState
    mel: mel.MelState
    encoder: EncoderState
    begun: int = 0
    samples: Tensor = field(default_factory=lambda: torch.zeros(0))
    taken: int = 0
    voice: Tensor = field(default_factory=lambda: torch.zeros(0))
    sound: list[Pair] = field(default_factory=list)
    draft: list[int] = field(default_factory=list)
    writing: Writing | None = None
    reading: int = 0
    closed: list[Window] = field(default_factory=list)
    texts: list[tuple[str, str]] = field(default_factory=list)

    def clone(self) -> RecognizerState:
        """A snapshot that can go its own way."""
        return replace(
            self,
            vad=self.vad.clone(),
            encoder=fork(self.encoder),
            writing=replace(self.writing) if self.writing else None,
            closed=[window.clone() for window in self.closed],
            texts=list(self.texts),
        )

    @property
    def frames(self) -> int:
        """Encoder frames of the current window that `sound` has."""
        return self.sound[0][0].shape[2] if self.sound else 0


class Recognizer(nn.Module):
    """Encoder, Whisper's decoder and an adapter that drafts for it; one of the two may be missing.

    Args:
        encoder: in blocks.
        adapter: CTC onto a language model's pieces; None where only the decoder is there.
        spelling: of the adapter's pieces.
        decoder: writes, checking the draft; None leaves the adapter's words as they are.
        whisper: the decoder's tokenizer.

    Raises:
        ModelError: neither adapter nor decoder.
    """

    def __init__(
        self,
        encoder: WhisperBlockEncoder,
        adapter: Adapter | None,
        spelling: Spelling | None,
        decoder: WhisperDecoder | None = None,
        whisper: Tokenizer | None = None,
    ) -> None:
        super().__init__()
        if (adapter is None or spelling is None) and (decoder is None or whisper is None):
            raise ModelError("A recognizer needs an adapter with its spelling, a decoder with its tokenizer, or both.")
        self.encoder, self.adapter, self.decoder = encoder, adapter, decoder
        self.spelling, self.whisper = spelling, whisper
        self.vad = SileroVad.shipped()
        self._quiet: list[Pair] = []  # what the decoder needs of silence, see _learn_silence

    @classmethod
    def from_pretrained(
        cls,
        whisper: Path | str,
        adapter: Path | str | None = None,
        llm: Path | str | None = None,
        words: str = "decoder",
    ) -> Recognizer:
        """Reads a recognizer from folders.

        Args:
            whisper: Whisper's (config.json, model.safetensors, tokenizer.json).
            adapter: the adapter's; None does without.
            llm: with an adapter, that of the language model whose pieces it spells, for its tokenizer.json.
            words: "decoder": Whisper's decoder checks what the adapter heard. "adapter": it does not.

        Raises:
            ModelError: an unknown `words`, or a folder that lacks what is needed.
        """
        if words not in ("decoder", "adapter"):
            raise ModelError(f"words is {words!r}: choose decoder or adapter.")
        if adapter is not None and llm is None:
            raise ModelError("An adapter spells with a language model's tokenizer: name that model's folder as llm.")
        whisper = Path(whisper)
        try:
            tokens = Tokenizer.from_file(str(whisper / "tokenizer.json")) if words == "decoder" else None
        except Exception as error:  # tokenizers raises bare Exception
            raise ModelError(f"{whisper} holds no tokenizer.json that can be read: {error}") from error
        model, spelling = None, None
        if adapter is not None and llm is not None:
            model, ids = Adapter.from_pretrained(adapter)
            try:
                spelling = Spelling(
                    (Path(llm) / "tokenizer.json").read_text(encoding="utf-8"), model.config.merges, ids
                )
            except (OSError, ValueError, KeyError, IndexError) as error:
                raise ModelError(f"{llm} holds no tokenizer.json that the adapter spells with: {error!r}") from error
        decoder = WhisperDecoder.from_pretrained(whisper, foreign_tokens(tokens)).pack() if tokens is not None else None
        encoder = WhisperBlockEncoder.from_pretrained(whisper)
        return cls(encoder, model, spelling, decoder, tokens).eval()

    @torch.no_grad()
    def init_state(self) -> RecognizerState:
        """The state before a turn's first sample. The first call takes a second or so more than the others."""
        if self.decoder is not None and not self._quiet:
            self._learn_silence()
        vad = self.vad.init_state(1)
        self.vad.step(torch.zeros(1, 3 * CHUNK), vad)  # likewise
        return RecognizerState(vad, mel.init_state(1), self.encoder.init_state(1))

    @torch.no_grad()
    def step(self, samples: Tensor, state: RecognizerState, ahead: bool = True) -> None:
        """Takes samples and does a share of the work on them that fits their length.

        Args:
            samples: float [N] at 16 kHz, any N.
            state: changed.
            ahead: draft what is said while it is said (live), so that less is left to do at the end; a waste of work if
                nobody waits for the end. What is heard stays the same.
        """
        if samples.ndim != 1:
            raise ModelError(f"A recognizer takes mono samples [N], not {list(samples.shape)}.")
        for piece in samples.split(self._window_samples):
            self._take(piece, state)
            units = max(1, round(len(piece) / RATE / UNIT_SECONDS)) if ahead else 0
            while units > 0 and (cost := self._work(state)):
                units -= cost
            if not ahead and len(state.closed) >= TOGETHER:
                state.texts, state.closed = [*state.texts, *self._written(state.closed)], []

    @torch.no_grad()
    def finish(self, state: RecognizerState) -> Heard:
        """What was said up to here. The state stays as it is, so that a speaker who only paused can go on."""
        state = state.clone()
        # The detector answers for whole chunks, and a moment late.
        self._close(len(state.samples), self._listen(torch.zeros(2 * CHUNK), state), state)
        state.texts = [*state.texts, *self._written(state.closed)]
        text = " ".join(heard for heard, _ in state.texts if heard)
        drafted = " ".join(draft for _, draft in state.texts if draft)
        return Heard(text, drafted=drafted)

    def draft(self, state: RecognizerState) -> str:
        """The words so far, as far as they are written down already: no work, and the last of them are missing."""
        tokens = [*(token for window in state.closed for token in window.draft), *self._drafted(state)]
        written = self.whisper.decode(tokens) if self.whisper is not None else ""
        return " ".join([*(heard for heard, _ in state.texts if heard), written.strip()]).strip()

    def hear(self, audio: Audio) -> Heard:
        """What is said in a recording of any sample rate, mono or not."""
        state = self.init_state()
        self.step(audio.mono().resample(RATE).samples.float(), state, ahead=False)
        return self.finish(state)

    # Sound

    @property
    def _window_samples(self) -> int:
        """Samples after which a window is closed."""
        return int(self.encoder.config.positions * WINDOW_SHARE) * FRAME_SAMPLES

    def _take(self, samples: Tensor, state: RecognizerState) -> None:
        """Adds samples to the window; closes it where it is long enough, at its quietest place."""
        state.voice = self._listen(samples, state)
        state.samples = torch.cat([state.samples, samples])
        while len(state.samples) >= self._window_samples:
            first = self.encoder.config.positions * CUT_SHARE * FRAME_SAMPLES / RATE
            window = state.samples[: self._window_samples]
            self._close(quietest(window, RATE, first, len(window) / RATE), state.voice, state)

    def _listen(self, samples: Tensor, state: RecognizerState) -> Tensor:
        """The detector's answers for the window, with those for more samples."""
        return torch.cat([state.voice, self.vad.step(samples[None], state.vad)[0]])

    def _close(self, size: int, voice: Tensor, state: RecognizerState) -> None:
        """Ends a window after `size` samples: it is to be written down, and the next begins with what is left."""
        chunks = (state.begun + size) // CHUNK - state.begun // CHUNK
        if size:
            state.closed = [*state.closed, Window(state.samples[:size], voice[: chunks + 1], self._drafted(state))]
        state.begun, state.samples, state.voice = state.begun + size, state.samples[size:], voice[chunks:]
        state.mel, state.encoder, state.taken = mel.init_state(1), self.encoder.init_state(1), 0
        state.sound, state.draft, state.writing, state.reading = [], [], None, 0

    # Work

    def _work(self, state: RecognizerState) -> int:
        """Does the next piece of work that waits; gives its cost in units, 0 if nothing is to do."""
        if state.closed:
            self._write(state)
            return 1
        if self.decoder is None:
            return 0
        if self._encode(state):
            return len(self.encoder.layers)
        return self._read_ahead(state)

    def _encode(self, state: RecognizerState) -> bool:
        """Encodes the next block of the current window, if all of it was heard."""
        size = min(self.encoder.config.block * FRAME_SAMPLES, len(state.samples) - state.taken)
        if not size:
            return False
        new, state.mel = mel.step(
            state.samples[None, state.taken : state.taken + size], state.mel, bands=self.encoder.config.bands
        )
        state.taken += size
        features, _ = self.encoder.step(new, state.encoder)
        if not features.shape[1]:
            return False
        heard = self.decoder.listen(features)
        state.sound = [
            (torch.cat([old[0], pair[0]], 2), torch.cat([old[1], pair[1]], 2)) for old, pair in zip(state.sound, heard)
        ] or heard
        return True

    def _read_ahead(self, state: RecognizerState) -> int:
        """A pass of the decoder over the blocks that are complete."""
        if state.writing is None:
            if state.frames == state.reading or not was_spoken(state.voice):
                return 0
            # What a new block adds is little, however a transcript of cut-off speech may loop.
            new = 6 + TOKENS_A_SECOND * (state.frames - state.reading) // 50
            state.reading = state.frames
            sound = join_sound(state.sound, self._silence(state.frames))
            state.writing = self.decoder.begin(sound, state.draft, len(state.draft) + new)
        self.decoder.advance(state.writing)
        if state.writing.over:
            # The last word may be cut off in the middle, and the full stop after it is only where the sound stops.
            tokens = state.writing.tokens
            state.draft = (tokens if state.writing.ended else cut_loop(tokens))[:-2]
            state.writing = None
        return 1

    def _drafted(self, state: RecognizerState) -> list[int]:
        """The best draft of the current window that there is."""
        written = state.writing.tokens if state.writing else []
        return written if len(written) > len(state.draft) else state.draft

    def _write(self, state: RecognizerState) -> None:
        """The next piece of work on the oldest closed window."""
        window, *others = state.closed
        if self._advance(window):
            return
        text, halves = self._judge(window)
        state.closed = [*halves, *others]
        if not halves:
            state.texts = [*state.texts, (text, window.drafted)]

    def _written(self, windows: list[Window]) -> list[tuple[str, str]]:
        """Writes windows down; those without a draft together."""
        for window in windows:
            while window.writing is None and self._advance(window):
                pass
        fresh = [window for window in windows if window.writing and not window.draft and not window.writing.passes]
        if len(fresh) > 1:
            sounds = [window.writing.sound for window in fresh]
            limits = [window.writing.max_tokens for window in fresh]
            for window, writing in zip(fresh, self.decoder.transcribe_together(sounds, limits)):
                window.writing = writing
        texts = []
        for window in windows:
            while self._advance(window):
                pass
            text, halves = self._judge(window)
            texts += self._written(halves) if halves else [(text, window.drafted)]
        return texts

    def _advance(self, window: Window) -> bool:
        """The next piece of work on a window; False if none is left."""
        if window.writing is not None:
            if window.writing.over:
                return False
            self.decoder.advance(window.writing)
        elif window.hidden is None:
            if not was_spoken(window.voice, window.samples):
                return False
            self._begin(window)
        elif window.layers < len(self.encoder.layers):
            window.hidden = self.encoder.run(window.hidden, None, window.layers, window.layers + 1)
            window.layers += 1
        elif self.decoder is not None:
            self._draft(window)
        else:
            return False
        return True

    def _begin(self, window: Window) -> None:
        """The encoder's convolutions over a window and the silence after it."""
        room = self.encoder.config.positions * FRAME_SAMPLES
        before = int(LEAD_SECONDS * RATE) if len(window.samples) < SHORT_SECONDS * RATE else 0
        after = min(int(SILENCE_SECONDS * RATE), room - before - len(window.samples))
        samples = F.pad(window.samples[:room], (before, after))
        spectrum = mel.log_mel(samples[None], self.encoder.config.bands)
        spectrum = F.pad(spectrum, (0, spectrum.shape[2] % 2), mode="replicate")
        window.hidden = self.encoder.embed(spectrum)

    def _draft(self, window: Window) -> None:
        """The encoder is done: joins the drafts, and lets the decoder begin."""
        features = self.encoder.layer_norm(window.hidden)
        window.drafted = self._spell(features[:, : window.frames])
        draft = join_drafts(window.draft, whisper_tokens(self.whisper, window.drafted))
        sound = join_sound(self.decoder.listen(features), self._silence(features.shape[1]))
        limit = 6 + TOKENS_A_SECOND * len(window.samples) // RATE
        window.writing = self.decoder.begin(sound, draft, limit)

    def _spell(self, features: Tensor) -> str:
        """What the adapter alone hears in features [1, frames, width]."""
        if self.adapter is None or self.spelling is None:
            return ""
        return self.spelling.text(self.adapter.best(features)[0])

    def _judge(self, window: Window) -> tuple[str, list[Window]]:
        """The text of a window, or the halves in which it is to be heard because words are missing."""
        if window.hidden is None:  # nobody spoke
            return "", []
        if window.writing is None:  # there is no decoder
            window.drafted = self._spell(self.encoder.layer_norm(window.hidden)[:, : window.frames])
            return window.drafted, []
        transcript = window.writing.transcript()
        tokens = transcript.tokens if transcript.ended else cut_loop(transcript.tokens)
        text = self.whisper.decode(tokens).strip()
        seconds = len(window.samples) / RATE
        if seconds >= MIN_SPLIT_SECONDS and (not transcript.ended or misses_words(text, window.drafted, window.voice)):
            cut = quietest(window.samples, RATE, seconds * 0.3, seconds * 0.7)
            at = cut // CHUNK
            parts = (window.samples[:cut], window.voice[: at + 1]), (window.samples[cut:], window.voice[at:])
            return "", [Window(*part) for part in parts]
        return ("" if was_nothing(transcript, window.voice) else text), []

    # Silence

    def _silence(self, start: int) -> list[Pair]:
        """What the decoder needs of silence, from frame `start` to the end of a window of 30 s.

        Whisper learnt on windows of 30 s, padded with silence: where the sound simply stops, it does not know that it
        may, and loops. Encoding so much silence after every turn would be most of the work. But silence that is far
        from any speech is always the same: it is encoded once.
        """
        return [(keys[:, :, start:], values[:, :, start:]) for keys, values in self._quiet]

    def _learn_silence(self) -> None:
        """Encodes a silent window, whole as Whisper saw it: with one encoded in blocks 3 of 12 turns looped."""
        config = self.encoder.config
        silent = torch.full((1, config.bands, 2 * config.positions), (mel.FLOOR - 8.0 + 4.0) / 4.0)
        self._quiet = self.decoder.listen(self.encoder.layer_norm(self.encoder.run(self.encoder.embed(silent))))


def join_sound(first: list[Pair], second: list[Pair]) -> list[Pair]:
    """What the decoder's attention needs of one sound and then another."""
    return [(torch.cat([a, c], 2), torch.cat([b, d], 2)) for (a, b), (c, d) in zip(first, second)]
