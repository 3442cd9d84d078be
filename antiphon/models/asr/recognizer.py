"""Speech recognition: samples in as they come, text out when the speaker is done.

    recognizer = Recognizer.from_pretrained(whisper)
    state = recognizer.init_state()
    recognizer.step(samples, state)      # 16 kHz, as often and as many as one likes
    heard = recognizer.finish(state)     # .text, .language

A voice activity detector says whether anybody spoke at all. While the speaker talks, the encoder runs block by block
and Whisper's decoder drafts what was said so far. A window that is over (the speaker is done, or it is long and was
cut where it is quietest) is encoded once more, whole, and the decoder checks the draft against it: blocks that see
little of what follows cost three words in a hundred on voices that Whisper finds hard. Where there is no draft yet,
an adapter, if there is one, spells one by CTC. The language model reads the text, so any will do.

The decoder's first pass over a window tells which language is spoken, at no cost: it writes the expected one meanwhile,
and begins again where another one is surely spoken.

Each step does a bounded amount of this work, so that sound never waits; the rest is done in the steps after it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from antiphon.audio import mel
from antiphon.audio.io import Audio
from antiphon.audio.pauses import quietest
from antiphon.audio.vad import CHUNK, SileroVad
from antiphon.encoders.base import FRAME_SAMPLES
from antiphon.encoders.whisper.decoder import Pair, Reading, WhisperDecoder, Writing, join_sound
from antiphon.encoders.whisper.encoder import WhisperBlockEncoder
from antiphon.encoders.whisper.tokens import WhisperTokens, whisper_tokens
from antiphon.errors import ModelError
from antiphon.models.asr.adapter import Adapter, Spelling
from antiphon.models.asr.heard import (
    ENGLISH,
    UNSPACED,
    Heard,
    HearingOptions,
    Likelihoods,
    Passage,
    SpokenWords,
    Word,
    joined,
)
from antiphon.models.asr.language import language_code, spoken_language
from antiphon.models.asr.recognizer_state import RATE, RecognizerState, Window
from antiphon.models.asr.rescoring import reconsidered
from antiphon.models.asr.transcripts import (
    cut_loop,
    few_words,
    join_drafts,
    misses_words,
    stops_early,
    voiced_seconds,
    was_nothing,
    was_spoken,
)
from antiphon.models.asr.words import spoken_words, timed_words
from antiphon.nn.cpu import in_bfloat16

WINDOW_SHARE, CUT_SHARE = 26 / 30, 15 / 30  # of the encoder's positions: a window is cut between the two
SILENCE_SECONDS = 3.0  # that the encoder sees after a window, so that the decoder knows that it is over
TOKENS_A_SECOND = 8  # nobody speaks faster; a decoder that writes more is looping
FOREIGN_TOKENS_A_SECOND = 25  # of languages of which Whisper has few words: a letter may take three tokens
MIN_SPLIT_SECONDS = 4.0  # a window of which words are missing is heard in halves, down to this
TOGETHER = 4  # windows that are written down at once, where nobody waits for the first
UNIT_SECONDS = 0.04  # of new sound that allow for one unit of work: a layer of the encoder, a pass of the decoder


class Recognizer(nn.Module):
    """Encoder, Whisper's decoder and an adapter that drafts for it; one of the two may be missing.

    Args:
        encoder: in blocks.
        adapter: CTC onto a language model's pieces; None where only the decoder is there.
        spelling: of the adapter's pieces.
        decoder: writes, checking the draft; None leaves the adapter's words as they are.
        whisper: the decoder's tokenizer.

    Attributes:
        languages: Whisper's token of each language's code; {} where nothing but English is known.
        likelihoods: a language model's, to decide where the decoder wavers, if the options have none; None leaves it to
            the decoder.

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
        self.whole: WhisperBlockEncoder = encoder  # for windows that are over; see `quicken`
        self.spelling, self.whisper = spelling, whisper
        self.special = WhisperTokens(whisper) if whisper is not None else None
        knows = decoder is not None and decoder.config.languages and self.special is not None
        self.languages: dict[str, int] = self.special.languages if knows else {}
        self.vad = SileroVad.shipped()
        self.likelihoods: Likelihoods | None = None
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
        decoder = WhisperDecoder.from_pretrained(whisper, WhisperTokens(tokens)).pack() if tokens is not None else None
        encoder = WhisperBlockEncoder.from_pretrained(whisper)
        return cls(encoder, model, spelling, decoder, tokens).eval().quicken()

    def quicken(self) -> Recognizer:
        """Has windows that are over encoded in bfloat16, where the CPU multiplies in it: in two thirds of the time. The
        blocks of live speech that the decoder drafts from stay in float32."""
        self.whole = in_bfloat16(self.encoder)
        return self

    def options(
        self, language: str | None = None, expected: str | None = None, translate: bool = False, words: bool = False
    ) -> HearingOptions:
        """How something is to be heard.

        Args:
            language, expected: by code, tag or English name (see `language_code`).
            translate, words: as in `HearingOptions`.

        Raises:
            ModelError: a language that isn't known; translation or times of words without Whisper's decoder.
        """
        known = self.languages or (ENGLISH,)
        if (translate and not self.languages) or (words and self.decoder is None):
            raise ModelError("This recognizer writes English alone, and no times: it has no multilingual decoder.")
        told = language_code(language, known) if language else None
        return HearingOptions(told, language_code(expected, known) if expected else ENGLISH, translate, words)

    @torch.no_grad()
    def init_state(self, options: HearingOptions | None = None) -> RecognizerState:
        """The state before a turn's first sample. The first call takes a second or so more than the others.

        Args:
            options: from `options`; None for words alone, in whatever language.
        """
        options = options or HearingOptions()
        if self.decoder is not None and not self._quiet:
            self._learn_silence()
        vad = self.vad.init_state(1)
        self.vad.step(torch.zeros(1, 3 * CHUNK), vad)  # likewise
        language = options.language or options.expected
        state = RecognizerState(vad, mel.init_state(1), self.encoder.init_state(1), options=options, language=language)
        state.drafted_in = language
        return state

    @torch.no_grad()
    def step(self, samples: Tensor, state: RecognizerState, ahead: bool = True, together: bool = False) -> None:
        """Takes samples and does a share of the work on them that fits their length.

        Args:
            samples: float [N] at 16 kHz, any N.
            state: changed.
            ahead: draft what is said while it is said (live), so that less is left to do at the end; a waste of work if
                nobody waits for the end. What is heard stays the same.
            together: without `ahead`, write several windows at once, which is quicker; a step may then take seconds.
        """
        if samples.ndim != 1:
            raise ModelError(f"A recognizer takes mono samples [N], not {list(samples.shape)}.")
        for piece in samples.split(self._window_samples):
            self._take(piece, state)
            if together:
                if len(state.closed) >= TOGETHER:
                    self._write_all(state)
                continue
            units = max(1, round(len(piece) / RATE / UNIT_SECONDS))
            while units > 0 and (cost := self._work(state, ahead)):
                units -= cost

    @torch.no_grad()
    def finish(self, state: RecognizerState) -> Heard:
        """What was said up to here. The state stays as it is, so that a speaker who only paused can go on."""
        state = state.clone()
        # The detector answers for whole chunks, and a moment late.
        self._close(len(state.samples), self._listen(torch.zeros(2 * CHUNK), state), state)
        self._write_all(state)
        return Heard.of(state.passages, state.begun / RATE)

    def draft(self, state: RecognizerState) -> str:
        """The words so far, as far as they are written down already: no work, and the last of them are missing."""
        tokens = [*(token for window in state.closed for token in window.draft), *self._drafted(state)]
        written = self.whisper.decode(tokens).strip() if self.whisper is not None else ""
        texts = [(passage.text, passage.language) for passage in state.passages]
        return joined([*texts, (written, state.drafted_in)])

    def hear(self, sound: Audio | Iterable[Tensor], options: HearingOptions | None = None) -> Heard:
        """What is said in a recording.

        Args:
            sound: of any sample rate, mono or not; or as it is read, in pieces [n] at 16 kHz, of any length.
            options: from `options`.
        """
        state = self.init_state(options)
        pieces = [sound.mono().resample(RATE).samples.float()] if isinstance(sound, Audio) else sound
        for piece in pieces:
            self.step(piece, state, ahead=False, together=True)
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
            samples, heard = state.samples[:size], voice[: chunks + 1]
            window = Window(samples, heard, state.options, state.begun, self._drafted(state))
            state.closed = [*state.closed, window]
        state.begun, state.samples, state.voice = state.begun + size, state.samples[size:], voice[chunks:]
        state.mel, state.encoder, state.taken = mel.init_state(1), self.encoder.init_state(1), 0
        state.sound, state.draft, state.writing, state.reading = [], [], None, 0

    # Work

    def _work(self, state: RecognizerState, ahead: bool) -> int:
        """Does the next piece of work that waits, `ahead` on the window that isn't over, too; gives its cost in units,
        0 if nothing is to do."""
        if state.closed:
            self._write(state)
            return 1
        if self.decoder is None or not ahead:
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
        state.sound = join_sound(state.sound, heard) or heard
        return True

    def _read_ahead(self, state: RecognizerState) -> int:
        """A pass of the decoder over the blocks that are complete."""
        if state.writing is None:
            if state.frames == state.reading or not was_spoken(state.voice):
                return 0
            # What a new block adds is little, however a transcript of cut-off speech may loop.
            new, known = (state.frames - state.reading) * FRAME_SAMPLES, len(state.draft)
            state.reading = state.frames
            sound = join_sound(state.sound, self._silence(state.frames))
            state.writing = self._begin_writing(sound, state.draft, state.drafted_in, state.options, new, known)
        writing, begun = state.writing, state.drafted_in
        self.decoder.advance(writing)
        if writing.passes == 1:
            state.drafted_in = self._spoken(writing.languages, state.voice, state.options, begun)
            if state.drafted_in != begun:
                size = state.frames * FRAME_SAMPLES
                state.writing = self._begin_writing(writing.sound, [], state.drafted_in, state.options, size)
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
        if window.hidden is None:
            window.language = state.language
        if self._advance(window):
            return
        passage, halves = self._judge(window)
        state.closed, state.language = [*halves, *others], window.language
        if not halves:
            state.passages = [*state.passages, passage]

    def _write_all(self, state: RecognizerState) -> None:
        """Writes the closed windows down; where none has a draft, together."""
        if len(state.closed) > 1 and not any(window.draft or window.hidden is not None for window in state.closed):
            self._write_together(state.closed, state.language)
        while state.closed:
            self._write(state)

    def _write_together(self, windows: list[Window], language: str) -> None:
        """Has the decoder write windows down at once, of which nothing is done yet; `language`: spoken before."""
        for window in windows:
            window.language = language
            while window.writing is None and self._advance(window):
                pass
        spoken = [window for window in windows if window.writing is not None]
        if spoken and self.languages and spoken[0].options.language is None:
            chances = self.decoder.languages([window.writing.sound for window in spoken])
            for window, likely in zip(spoken, chances):
                window.language = language = self._spoken(likely, window.voice, window.options, language)
        for window in spoken:
            self._begin_window(window, window.writing.sound, [])
        if spoken:
            self.decoder.advance_together([window.writing for window in spoken])

    def _advance(self, window: Window) -> bool:
        """The next piece of work on a window; False if none is left."""
        if window.writing is not None:
            if window.writing.over:
                return False
            self.decoder.advance(window.writing)
            if window.writing.passes == 1:
                begun, likely = window.language, window.writing.languages
                window.language = self._spoken(likely, window.voice, window.options, begun)
                if window.language != begun:
                    self._begin_window(window, window.writing.sound, window.draft)
        elif window.hidden is None:
            if not was_spoken(window.voice, window.samples):
                return False
            self._begin(window)
        elif window.layers < len(self.encoder.layers):
            window.hidden = self.whole.run(window.hidden, None, window.layers, window.layers + 1)
            window.layers += 1
        elif self.decoder is not None:
            self._draft(window)
        else:
            return False
        return True

    def _begin(self, window: Window) -> None:
        """The encoder's convolutions over a window and the silence after it."""
        room = self.encoder.config.positions * FRAME_SAMPLES
        before = window.lead * FRAME_SAMPLES
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
        self._begin_window(window, sound, draft)

    def _spell(self, features: Tensor) -> str:
        """What the adapter alone hears in features [1, frames, width]."""
        if self.adapter is None or self.spelling is None:
            return ""
        return self.spelling.text(self.adapter.best(features)[0])

    def _judge(self, window: Window) -> tuple[Passage, list[Window]]:
        """What was said in a window, or the halves in which it is to be heard because words are missing."""
        begun, end = (at / RATE for at in (window.begun, window.begun + len(window.samples)))
        if window.hidden is None:
            return Passage("", start=begun, end=end), []  # nobody spoke
        if window.writing is None:  # there is no decoder
            window.drafted = self._spell(self.encoder.layer_norm(window.hidden)[:, : window.frames])
            return Passage(window.drafted, window.drafted, begun, end), []
        transcript, language = window.writing.transcript(), window.language
        tokens = transcript.tokens if transcript.ended else cut_loop(transcript.tokens)
        text = self.whisper.decode(tokens).strip()
        # The adapter hears English.
        drafted, spaced = (window.drafted if language == ENGLISH else ""), language not in UNSPACED
        missing = not transcript.ended or misses_words(text, drafted, window.voice, spaced)
        if spaced and not missing and few_words(text, window.voice):
            words = self._timed(window, tokens)
            missing = bool(words) and stops_early(words[-1].start - begun, window.voice)
        if end - begun >= MIN_SPLIT_SECONDS and missing:
            cut = quietest(window.samples, RATE, (end - begun) * 0.3, (end - begun) * 0.7)
            at = cut // CHUNK
            first = Window(window.samples[:cut], window.voice[: at + 1], window.options, window.begun)
            second = Window(window.samples[cut:], window.voice[at:], window.options, window.begun + cut)
            return Passage(""), [first, second]
        if was_nothing(transcript, window.voice, language == ENGLISH and not window.options.translate):
            return Passage("", window.drafted, begun, end), []
        likelihoods = window.options.likelihoods or self.likelihoods
        if likelihoods is not None and transcript.ended and not window.options.translate:
            window.writing = reconsidered(window.writing, self.decoder, self.whisper, likelihoods)
            text = self.whisper.decode(tokens := window.writing.tokens).strip()
        words = self._timed(window, tokens) if window.options.words else ()
        spoken = self._heard(window, tokens) if window.options.states else None
        known, sure = language if self.languages else None, math.exp(transcript.confidence)
        voiced, quiet = voiced_seconds(window.voice), transcript.no_speech
        return Passage(text, window.drafted, begun, end, known, words, voiced, spoken, sure, quiet), []

    def _timed(self, window: Window, tokens: list[int]) -> tuple[Word, ...]:
        """The words of a window's transcript, with times in the turn."""
        reading, written = self._read(window, tokens)
        return timed_words(reading, tokens, self.whisper, window.samples, written, window.begun / RATE)

    def _heard(self, window: Window, tokens: list[int]) -> SpokenWords | None:
        """How the words of a window's transcript were heard."""
        reading, written = self._read(window, tokens)
        features = self.encoder.layer_norm(window.hidden)[0, window.lead :][: window.frames]
        return spoken_words(reading, tokens, self.whisper, features, written)

    def _read(self, window: Window, tokens: list[int]) -> tuple[Reading, str]:
        """What the decoder makes of a window's transcript, and the language that is written."""
        frames, writing = slice(window.lead, window.lead + window.frames), window.writing
        reading = self.decoder.read(tokens, writing.sound, frames, writing.start)
        return reading, ENGLISH if window.options.translate else window.language

    # Languages

    def _begin_writing(
        self, sound: list[Pair], draft: list[int], language: str, options: HearingOptions, samples: int, more: int = 0
    ) -> Writing:
        """A transcript of so many samples in a language, which may have `more` tokens than they allow for."""
        english = language == ENGLISH or options.translate
        limit = more + 6 + (TOKENS_A_SECOND if english else FOREIGN_TOKENS_A_SECOND) * samples // RATE
        start = self.special.start(language, ("transcribe", "translate")[options.translate]) if self.languages else None
        return self.decoder.begin(sound, draft, limit, start=start, english=english)

    def _begin_window(self, window: Window, sound: list[Pair], draft: list[int]) -> None:
        """The transcript of a window, in its language."""
        window.writing = self._begin_writing(sound, draft, window.language, window.options, len(window.samples))

    def _spoken(self, likely: Tensor | None, voice: Tensor, options: HearingOptions, expected: str) -> str:
        """The language that is spoken: that was told, or as the decoder finds it."""
        if options.language is not None or likely is None or not self.languages:
            return options.language or expected
        return spoken_language(likely, list(self.languages), expected, voiced_seconds(voice))

    def _silence(self, start: int) -> list[Pair]:
        """What the decoder needs of silence, from frame `start` to the end of a window of 30 s.

        Whisper learnt on windows of 30 s, padded with silence: where the sound simply stops, it doesn't know that it
        may, and loops. Silence that is far from any speech is always the same, so it is encoded once.
        """
        return [(keys[:, :, start:], values[:, :, start:]) for keys, values in self._quiet]

    def _learn_silence(self) -> None:
        """Encodes a silent window, whole as Whisper saw it: with one encoded in blocks 3 of 12 turns looped."""
        config = self.encoder.config
        silent = torch.full((1, config.bands, 2 * config.positions), (mel.FLOOR - 8.0 + 4.0) / 4.0)
        self._quiet = self.decoder.listen(self.encoder.layer_norm(self.encoder.run(self.encoder.embed(silent))))
