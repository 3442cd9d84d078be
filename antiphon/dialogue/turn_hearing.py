"""What hears the user's turns for a thinker that can hear by itself: its own tower, or a recognizer beside it.

    hears = TowerHears(thinker.audio_tower, written)       # or RecognizerHears(recognizer)
    listener = hears.listen(24000)
    listener.step(samples)                                 # as they come: every 2 s are encoded while the user speaks
    message = listener.finish().message()

What the tower hears isn't written down: the language model reads the sound itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import soxr
import torch
from torch import Tensor
from torch.nn import functional as F

from antiphon.audio.io import SILENCE_PEAK, Audio
from antiphon.audio.mel import HOP, WINDOW
from antiphon.dialogue.backend import HEARING_RATE, Hearing, Listener
from antiphon.dialogue.half_duplex import RecognizerListener, as_hearing
from antiphon.encoders.base import FRAME_SAMPLES
from antiphon.encoders.whisper.features import log_mel
from antiphon.encoders.whisper.tower import AudioTower
from antiphon.errors import ModelError
from antiphon.models.asr.heard import ENGLISH, Heard, HearingOptions, Passage
from antiphon.models.asr.recognizer import Recognizer

WRITTEN_SECONDS = 30  # of sound that are written down at once
MIN_FRAMES = 3  # of a spectrogram, that make a token
LANGUAGES = (ENGLISH, "zh")  # that Qwen2.5-Omni was published for

Written = Callable[[Hearing, HearingOptions], str]


class Hears(Protocol):
    """What hears the user's turns.

    Attributes:
        writes_down: see `Backend`.
        languages: that it understands.
    """

    writes_down: bool

    @property
    def languages(self) -> Collection[str]: ...

    def listen(self, sample_rate: int, options: HearingOptions | None, live: bool) -> Listener:
        """The next turn, of samples at that rate."""
        ...

    def heard(self, audio: Audio, options: HearingOptions | None) -> Hearing:
        """A whole turn, as it is answered."""
        ...

    def hear(self, sound: Audio | Iterable[Tensor], options: HearingOptions | None) -> Heard:
        """What is said in a recording, written down; see `OmniBackend.hear`."""
        ...


class TowerHears:
    """A thinker's own tower.

    Args:
        tower: hears.
        written: what was said in what the tower heard, where that is asked for.
    """

    writes_down = False
    languages: Collection[str] = LANGUAGES

    def __init__(self, tower: AudioTower, written: Written):
        self.tower, self.written = tower, written

    def listen(self, sample_rate: int, options: HearingOptions | None = None, live: bool = True) -> TowerListener:
        """See `Hears`."""
        return TowerListener(self.tower, sample_rate, options, None if live else self.written)

    def heard(self, audio: Audio, options: HearingOptions | None = None) -> Hearing:
        """See `Hears`."""
        listener = self.listen(audio.sample_rate, options)
        listener.step(audio.mono().samples.float())
        return listener.finish()

    def hear(self, sound: Audio | Iterable[Tensor], options: HearingOptions | None = None) -> Heard:
        """See `Hears`: half a minute at a time.

        Raises:
            ModelError: the times of words are asked for.
        """
        options = options or HearingOptions()
        if options.words:
            raise ModelError("This model tells no times of words: leave words out, or load 'base'.")
        if not isinstance(sound, Audio):
            sound = Audio(torch.cat([torch.zeros(0), *sound]), HEARING_RATE)
        samples, passages = sound.mono().resample(HEARING_RATE).samples.float(), []
        for at, piece in enumerate(samples.split(WRITTEN_SECONDS * HEARING_RATE)):
            hearing = self.heard(Audio(piece, HEARING_RATE))
            if hearing.is_speech:
                start, seconds = float(at * WRITTEN_SECONDS), len(piece) / HEARING_RATE
                text = self.written(hearing, options)
                passages.append(Passage(text, "", start, start + seconds, options.language, voiced=seconds))
        return Heard.of(passages, len(samples) / HEARING_RATE)


class RecognizerHears:
    """A recognizer, whose words the thinker reads.

    Args:
        recognizer: hears.
    """

    writes_down = True

    def __init__(self, recognizer: Recognizer):
        self.recognizer = recognizer

    @property
    def languages(self) -> Collection[str]:
        """See `Hears`."""
        return self.recognizer.languages or (ENGLISH,)

    def listen(self, sample_rate: int, options: HearingOptions | None = None, live: bool = True) -> RecognizerListener:
        """See `Hears`."""
        return RecognizerListener(self.recognizer, sample_rate, options, live)

    def heard(self, audio: Audio, options: HearingOptions | None = None) -> Hearing:
        """See `Hears`."""
        return as_hearing(self.recognizer.hear(audio, options))

    def hear(self, sound: Audio | Iterable[Tensor], options: HearingOptions | None = None) -> Heard:
        """See `Hears`."""
        return self.recognizer.hear(sound, options)


class TowerListener:
    """One turn, heard by the audio tower 2 s at a time while it goes on; see `Listener`.

    What is more than 80 dB under the loudest moment of the whole turn is cut off, which isn't known before the end:
    blocks that would have been others are encoded again then, so what is heard is what a whole recording gives.

    Args:
        tower: hears.
        sample_rate: of what it is given, Hz.
        options: how.
        written: what is said is written down, too, by this; None: somebody waits for the end.
    """

    def __init__(
        self, tower: AudioTower, sample_rate: int, options: HearingOptions | None = None,
        written: Written | None = None,
    ):  # fmt: skip
        self.tower, self.options, self.written = tower, options or HearingOptions(), written
        self.resampler = soxr.ResampleStream(sample_rate, HEARING_RATE, 1, dtype="float32")
        self._samples = torch.zeros(0)  # from half a window before the next frame on
        self._begun = False
        self._count, self._peak = 0, 0.0
        self._logs: list[Tensor] = []  # of whole blocks, [bands, frames] each
        self._blocks: list[tuple[Tensor, Tensor]] = []  # spectrograms as they were encoded, and what came of them
        self._loudest = -torch.inf

    def step(self, samples: Tensor) -> None:
        self._take(torch.from_numpy(self.resampler.resample_chunk(samples.numpy())))

    def draft(self) -> str:
        return ""

    def passages(self) -> Sequence[Passage]:
        return ()

    @torch.inference_mode()
    def peek(self) -> Hearing:
        frames = -(-self._count // HOP) - sum(log.shape[1] for log in self._logs)
        if self._peak < SILENCE_PEAK or -(-self._count // HOP) < MIN_FRAMES:
            return Hearing("")
        total = 2 * -(-self._count // FRAME_SAMPLES) - sum(log.shape[1] for log in self._logs)
        samples = self._samples if self._begun else self._mirrored(self._samples)
        rest = self._log(F.pad(samples, (0, total * HOP + WINDOW - len(samples))), total)
        loudest = max([self._loudest, *(float(part.max()) for part in (rest,) if part.numel())])
        for at, log in enumerate(self._logs):
            if not torch.equal(mel := _cut_off(log, loudest), self._blocks[at][0]):
                self._blocks[at] = self._encoded(mel)
        heard = [features for _, features in self._blocks]
        if frames >= MIN_FRAMES:
            heard.append(self._encoded(_cut_off(rest[:, :frames], loudest))[1])
        hearing = Hearing("", torch.cat(heard), self.options.language)
        if self.written is None:
            return hearing
        text = self.written(hearing, self.options)
        return replace(hearing, text=text, passages=(Passage(text, end=self._count / HEARING_RATE),) if text else ())

    def finish(self) -> Hearing:
        self._take(torch.from_numpy(self.resampler.resample_chunk(np.zeros(0, np.float32), last=True)))
        return self.peek()

    @torch.inference_mode()
    def _take(self, samples: Tensor) -> None:
        if not len(samples):
            return
        self._count, self._peak = self._count + len(samples), max(self._peak, float(samples.abs().max()))
        self._samples = torch.cat([self._samples, samples])
        if not self._begun and len(self._samples) > WINDOW // 2:
            self._samples, self._begun = self._mirrored(self._samples), True
        size = self.tower.config.block
        while self._begun and len(self._samples) >= size * HOP + WINDOW:
            log = self._log(self._samples, size)
            self._samples = self._samples[size * HOP :]
            self._loudest = max(self._loudest, float(log.max()))
            self._logs.append(log)
            self._blocks.append(self._encoded(_cut_off(log, self._loudest)))

    def _mirrored(self, samples: Tensor) -> Tensor:
        """With what stands before the first sample of a spectrogram."""
        short = F.pad(samples, (0, max(0, WINDOW // 2 + 1 - len(samples))))
        return torch.cat([short[1 : WINDOW // 2 + 1].flip(0), samples])

    def _log(self, samples: Tensor, frames: int) -> Tensor:
        windows = samples.unfold(0, WINDOW, HOP)[:frames]
        return log_mel(windows, self.tower.config.num_mel_bins).T

    def _encoded(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        return mel, self.tower(mel[None].to(self.tower.conv1.weight.device))[0][0]


def _cut_off(log: Tensor, loudest: float) -> Tensor:
    """Whisper's scaling of logarithms of mel bands."""
    return (log.clamp_min(loudest - 8.0) + 4.0) / 4.0
