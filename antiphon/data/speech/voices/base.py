"""Teacher voices: text in, speech with phoneme and word times out.

`HibariVoice` is the teacher of the mini model's own voice. Its network predicts how long each phoneme lasts before it
makes any sound, and a spectral envelope apart from the pitch before it makes a waveform. So the times come for
free, and other speakers come almost for free: the pitch is scaled and the envelope stretched along frequency, as a
longer or shorter throat would, at the full speed of about 100 seconds of speech a second.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from antiphon.models.tts.phonemes import Phonemizer

DURATION_FRAME = 0.025  # seconds a unit of the duration predictor (two spectral frames of 300 samples at 24 kHz)


@dataclass
class Spoken:
    """One utterance as a teacher said it.

    Attributes:
        samples: float32 [N] in [-1, 1].
        sample_rate: Hz.
        phonemes: one character a phoneme, stress mark, space or punctuation; empty if the voice does not tell.
        phoneme_ends: float64 [len(phonemes)], seconds; phoneme i starts where i - 1 ends.
        phonemes_start: seconds of silence before the first phoneme.
        words: (phonemes of the word, start, end) in seconds.
    """

    samples: np.ndarray
    sample_rate: int
    phonemes: str = ""
    phoneme_ends: np.ndarray = field(default_factory=lambda: np.zeros(0))
    phonemes_start: float = 0.0
    words: list[tuple[str, float, float]] = field(default_factory=list)


def word_times(phonemes: str, ends: np.ndarray, start: float = 0.0) -> list[tuple[str, float, float]]:
    """Groups phonemes into words at the spaces.

    Args:
        phonemes: as in `Spoken`.
        ends: seconds at which each phoneme ends.
        start: seconds at which the first phoneme starts.

    Returns:
        (phonemes, start, end) of each word; a space belongs to neither neighbour.
    """
    words, first = [], 0
    for i in range(len(phonemes) + 1):
        if i == len(phonemes) or phonemes[i] == " ":
            if i > first:
                words.append((phonemes[first:i], float(ends[first - 1]) if first else start, float(ends[i - 1])))
            first = i + 1
    return words


def stretch_frequency(spectrum: np.ndarray, factor: float, smooth: bool) -> np.ndarray:
    """Moves what stands at frequency f to f * factor.

    Args:
        spectrum: [bins, frames].
        factor: above 1 moves formants up (a shorter throat), below 1 down.
        smooth: interpolate linearly; phases must not be interpolated and take the nearest bin.

    Returns:
        [bins, frames]; bins past the original's end repeat its last bin.
    """
    bins = spectrum.shape[0]
    source = np.minimum(np.arange(bins) / factor, bins - 1)
    if not smooth:
        return spectrum[np.rint(source).astype(int)]
    low = np.floor(source).astype(int)
    high = np.minimum(low + 1, bins - 1)
    weight = (source - low)[:, None].astype(spectrum.dtype)
    return spectrum[low] * (1 - weight) + spectrum[high] * weight


def moved(pitch: np.ndarray, factor: float) -> np.ndarray:
    """A pitch contour, Hz, 0 where there is none, that moves so many times as far from its middle."""
    voiced = pitch > 0
    if factor == 1.0 or not voiced.any():
        return pitch
    middle = np.median(pitch[voiced])
    return np.where(voiced, middle * (np.maximum(pitch, 1.0) / middle) ** factor, 0.0).astype(pitch.dtype)


def stretch_time(frames: np.ndarray, factor: float, smooth: bool) -> np.ndarray:
    """Frames [rows, frames], passed through so many times as fast; `smooth` as in `stretch_frequency`."""
    at = np.arange(0.0, frames.shape[1] - 0.5, factor)
    if not smooth:
        return frames[:, np.rint(at).astype(int)]
    low = np.floor(at).astype(int)
    high, weight = np.minimum(low + 1, frames.shape[1] - 1), (at - low).astype(frames.dtype)
    return frames[:, low] * (1 - weight) + frames[:, high] * weight


class HibariVoice:
    """The voice "heart" of the `hibari-tts` package: 24 kHz, American English, about 100 x real time on one core."""

    sample_rate = 24000

    def __init__(self) -> None:
        import onnx
        import onnxruntime
        from hibari import Hibari

        self.tts, self.phonemizer = Hibari(), Phonemizer()
        graph = onnx.load(self.tts.model_path)
        (cumulate,) = [node for node in graph.graph.node if node.op_type == "CumSum"]
        graph.graph.output.append(onnx.ValueInfoProto(name=cumulate.input[0]))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(
            graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def phonemize(self, text: str) -> str:
        """Phonemes of a text, sentences joined by spaces, in the alphabet of misaki."""
        return self.phonemizer(text)

    def speak(self, text: str, seed: int = 0, **changes: float) -> Spoken:
        """Speaks a sentence; longer texts lose quality past about 400 phonemes. See `speak_phonemes`.

        Returns:
            The speech with the times of its phonemes and words. Empty samples if there is nothing to say.
        """
        phonemes = self.phonemize(text)
        if not phonemes.strip():
            return Spoken(np.zeros(0, np.float32), self.sample_rate)
        return self.speak_phonemes(phonemes, seed, **changes)

    def speak_phonemes(
        self,
        phonemes: str,
        seed: int = 0,
        speed: float = 1.0,
        pitch: float = 1.0,
        formant: float = 1.0,
        movement: float = 1.0,
        tempo: float = 1.0,
    ) -> Spoken:
        """Speaks a string of phonemes.

        Args:
            phonemes: in the alphabet of misaki.
            seed: of the noise component.
            speed: above 1 is faster.
            pitch: factor on the fundamental frequency.
            formant: factor on the spectral envelope's frequencies.
            movement: factor on how far the pitch moves from its middle, in octaves.
            tempo: as `speed`, but to the letter: what was spoken is stretched. The teacher's own speed is its phonemes'
                durations in steps of 25 ms; short ones have no shorter step.
        """
        from hibari import dsp

        ids = np.asarray([self.tts.ids(phonemes)], np.int64)
        *parts, lengths = self.session.run(None, {"ids": ids, "speed": np.asarray([speed], np.float32)})
        lh, theta, ln, lr, phi, f0 = (part[0] for part in parts)
        if formant != 1.0:
            lh, ln, lr = (stretch_frequency(part, formant, smooth=True) for part in (lh, ln, lr))
            theta, phi = (stretch_frequency(part, formant, smooth=False) for part in (theta, phi))
        if tempo != 1.0:
            lh, ln, lr = (stretch_time(part, tempo, smooth=True) for part in (lh, ln, lr))
            theta, phi, (f0,) = (stretch_time(part, tempo, smooth=False) for part in (theta, phi, f0[None]))
        f0 = moved(f0, movement) * np.float32(pitch)
        samples = dsp.synth(lh, theta, ln, lr, phi, f0, np.random.default_rng(seed))
        lengths = lengths.reshape(-1).astype(np.float64) * DURATION_FRAME / tempo
        ends = np.cumsum(lengths)[1:-1]
        start = float(lengths[0])
        return Spoken(
            np.clip(samples, -1, 1).astype(np.float32),
            self.sample_rate,
            phonemes,
            ends,
            start,
            word_times(phonemes, ends, start),
        )
