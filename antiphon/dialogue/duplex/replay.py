"""A recording played to a duplex model, as if somebody said it now: both channels, the words of both, who spoke when.

    replay = replay_recording(DuplexStream(duplex, seed=1), load("user.wav"))
    replay.stereo.save("both.wav")                        # left the model, right the user
    print(replay.transcript())

The model hears one frame after the other and what it says to a frame sounds during the next, as in real time, however
fast this runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from antiphon.audio.io import Audio
from antiphon.audio.speech import LevelActivity, SpeechDetector
from antiphon.data.dialogue.format import MODEL, USER, Word, sidecar
from antiphon.dialogue.duplex.stream import SPEECH_GAP_SECONDS, DuplexStream
from antiphon.dialogue.events import AudioEvent, Event, HeardEvent, TextEvent
from antiphon.dialogue.transcriber import Transcriber

if TYPE_CHECKING:
    from antiphon.dialogue.full_duplex import FullDuplexSession
    from antiphon.models.asr.recognizer import Recognizer

Span = tuple[float, float]
SPEECH_LEVEL_DB = -42.0  # of full scale, above which a frame is speech
ABOVE_NOISE_DB = 12.0  # by which the user's speech is louder than what else the recording holds
TEXT_LEAD_SECONDS = 0.3  # by which the text of a word may come before its sound
MAX_WORD_SECONDS = 0.8  # for all that the text tells


@dataclass
class Replay:
    """What came of it.

    Attributes:
        model, user: float32 [samples], as many in both.
        sample_rate: Hz.
        words: of the model, one by one.
        heard: of the user, one turn each, if a recognizer was there; in the order in which they began.
        spans: speaker -> stretches of speech, seconds.
        work: seconds that each frame took.
    """

    model: Tensor
    user: Tensor
    sample_rate: int
    words: list[Word] = field(default_factory=list)
    heard: list[HeardEvent] = field(default_factory=list)
    spans: dict[str, list[Span]] = field(default_factory=dict)
    work: list[float] = field(default_factory=list)

    @property
    def stereo(self) -> Audio:
        """Left the model, right the user."""
        return Audio(torch.stack([self.model, self.user]), self.sample_rate)

    @property
    def seconds(self) -> float:
        return len(self.user) / self.sample_rate

    def lines(self) -> list[tuple[float, float, str, str]]:
        """What was said, by stretches of speech: (start, end, speaker, text), in order."""
        said = []
        for start, end in self.spans[MODEL]:
            words = [word.text for word in self.words if start - TEXT_LEAD_SECONDS <= word.start < end]
            said.append((start, end, MODEL, " ".join(words)))
        said += [(event.start, event.end, USER, event.heard) for event in self.heard]
        return sorted(said)

    def transcript(self) -> str:
        """The same for people to read: `  1.20   2.90  model  Good morning.`"""
        return "\n".join(f"{start:7.2f} {end:7.2f}  {who:5}  {text}".rstrip() for start, end, who, text in self.lines())

    def notes(self) -> dict[str, Any]:
        """The same for programs: what moshi-finetune's format has beside a recording, and more under "info".

        The words of a user's turn are spread over it: a recognizer tells when a turn began and ended, not each word.
        """
        spread = [word for event in self.heard for word in spread_words(event)]
        lines = [
            {"speaker": who, "start": round(start, 3), "end": round(end, 3), "text": text}
            for start, end, who, text in self.lines()
        ]
        spans = {who: [[round(a, 3), round(b, 3)] for a, b in spans] for who, spans in self.spans.items()}
        words = sorted([*self.words, *spread], key=lambda word: word.start)
        return sidecar(words, [], {"lines": lines, "speech": spans})


def replay_recording(
    stream: DuplexStream | FullDuplexSession,
    recording: Audio,
    after: float = 4.0,
    recognizer: Recognizer | None = None,
    realtime: bool = False,
    tell: Callable[[Event], None] | None = None,
) -> Replay:
    """Plays a recording to a model.

    Args:
        stream: the model; it may have a past. A session has no thread (`pace=1.0`), or takes as long as it lasts.
        recording: the user, any sample rate, mono or not.
        after: seconds of silence after it, so that there is time for an answer.
        recognizer: writes down what the user says.
        realtime: takes as long as it lasts; otherwise as fast as it goes.
        tell: gets every event when it comes, in real time.
    """
    size, rate = stream.frame_samples, stream.sample_rate
    samples = recording.mono().resample(rate).samples.float()
    frames = -(-(len(samples) + round(after * rate)) // size)
    user = torch.cat([samples, samples.new_zeros(frames * size - len(samples))])
    transcriber = Transcriber(recognizer, rate) if recognizer is not None else None
    all_events, work, began, first = [], [], time.perf_counter(), stream.time
    for number, frame in enumerate(user.split(size)):
        if realtime:
            time.sleep(max(0.0, began + (number + 1) * stream.frame_seconds - time.perf_counter()))
        start = time.perf_counter()
        events = stream.step(frame)
        work.append(time.perf_counter() - start)
        if transcriber is not None and (said := transcriber.step(frame)) is not None:
            events.append(said)
        all_events += events
        for event in events if tell is not None else ():
            tell(event)
    if transcriber is not None and (said := transcriber.finish()) is not None:
        all_events.append(said)
    return collect(user, all_events, size, rate, work, first)


def collect(
    user: Tensor, events: Sequence[Event], size: int, rate: int, work: list[float] | None = None, first: float = 0.0
) -> Replay:
    """Puts together what was heard and the events of a whole conversation.

    Args:
        user: float32 [samples].
        events: of a session or stream, in order.
        size: samples a frame.
        rate: Hz.
        work: seconds that each frame took.
        first: the events' time at the beginning.
    """
    sound = [torch.zeros(size), *(event.audio.samples for event in events if isinstance(event, AudioEvent))]
    model = torch.cat(sound)[: len(user)]  # what would be said after the end isn't heard
    model = torch.cat([model, model.new_zeros(len(user) - len(model))])
    texts = [TextEvent(event.text, event.time - first) for event in events if isinstance(event, TextEvent)]
    spans = {
        MODEL: speech_spans(model, size, rate),
        USER: speech_spans(user, size, rate, threshold=max(SPEECH_LEVEL_DB, quietest(user, size) + ABOVE_NOISE_DB)),
    }
    words = [word for word in spoken_words(texts, spans[MODEL]) if word.start < len(user) / rate]
    heard = [event for event in events if isinstance(event, HeardEvent)]
    return Replay(model, user, rate, words, heard, spans, work or [])


def speech_spans(samples: Tensor, size: int, rate: int, threshold: float = SPEECH_LEVEL_DB) -> list[Span]:
    """Stretches of speech by loudness, at the resolution of frames of `size` samples."""
    detector, spans, begun = SpeechDetector(LevelActivity(rate, size, threshold), SPEECH_GAP_SECONDS), [], 0.0
    for event in detector.step(samples.numpy()):
        if event.kind == "start":
            begun = event.at / rate
        else:
            spans.append((begun, event.quiet_from / rate))
    if detector.speaking:
        end = detector.position - detector.quiet if detector.quiet else len(samples)
        spans.append((begun, end / rate))
    return spans


def quietest(samples: Tensor, size: int) -> float:
    """Decibels of full scale that a tenth of the frames which aren't digital silence stay below; -100 if all are."""
    if not len(samples):
        return -100.0
    power = torch.stack([frame.square().mean() for frame in samples.split(size)])
    power = power[power > 1e-10]
    return float(10 * power.quantile(0.1).log10()) if len(power) else -100.0


def spoken_words(texts: list[TextEvent], spans: list[Span]) -> list[Word]:
    """Words with times from pieces of text: a space begins one.

    A word ends where the next one begins, where the speech ends, or after `MAX_WORD_SECONDS` seconds.
    """
    found: list[list[Any]] = []
    for event in texts:
        if event.text.startswith(" ") or not found:
            found.append([event.text.strip(), event.time])
        else:
            found[-1][0] += event.text
    starts = [start for _, start in found[1:]] + [float("inf")]
    words = []
    for (text, start), following in zip(found, starts):
        stop = min([end for _, end in spans if end > start], default=float("inf"))
        if text.strip():
            words.append(Word(text.strip(), start, max(start, min(following, stop, start + MAX_WORD_SECONDS)), MODEL))
    return words


def spread_words(event: HeardEvent) -> list[Word]:
    """A turn's words, each as long as it has letters."""
    texts = event.heard.split()
    letters, at, words = sum(len(text) + 1 for text in texts), event.start, []
    for text in texts:
        until = at + (event.end - event.start) * (len(text) + 1) / letters
        words.append(Word(text, at, until, USER))
        at = until
    return words
