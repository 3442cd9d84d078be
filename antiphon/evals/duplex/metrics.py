"""Who speaks when, measured: the definitions of Full-Duplex-Bench, as pure functions of speech segments.

    segments = speech(model_channel, 24000)                      # or from_words(words)
    for case in cases(events, seconds):                          # what the user does, labelled
        outcome = measure(case, segments, words)                 # what the model did about it

Full-Duplex-Bench v1.0 (Lin et al. 2025, arXiv 2503.04721; its evaluation/eval_*.py) and v1.5 (arXiv 2507.23159; its
evaluation/get_timing.py) measure words that a recogniser found in the model's channel, over the whole recording. Here
speech comes from the sound's energy (no recogniser's taste in it), and each measure says what it counts and when. Where
the two differ, both are given: fields that end in `_published` or `_clipped` are computed in their way.

- *Backchannel*: a stretch of speech shorter than 1 s with at most 2 words (v1.0, eval_backchannel.py). Where no words
  are known the length alone decides.
- *Take-over* (TO): the model speaks, and it is not just a backchannel. For pauses, turns and interruptions v1.0 takes
  everything from the model's first word to its last for one utterance, and lets up to 3 words pass for none (eval_
  pause_handling.py and its siblings); the paper and eval_backchannel.py say fewer than 3, each stretch on its own, and
  so do we. The take-over rate (TOR) is the mean.
- *Latency*: from the end of the user's turn to the model's first word; v1.0 counts a model that starts earlier as 0
  and takes means. Here a start before the end stays negative, and medians are taken.
- *Stop latency*: v1.5 takes the overlap of the two speakers, which ends with the user's words if the model goes on.
  Here it runs to the end of the model's stretch, however late.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from antiphon.data.dialogue.format import MODEL, USER, Event, Word

Segment = tuple[float, float]  # start and end of a stretch of speech, seconds

BACKCHANNEL_MAX_SECONDS = 1.0  # a shorter stretch may be a backchannel (v1.0)
BACKCHANNEL_MAX_WORDS = 2  # (v1.0, eval_backchannel.py)
PUBLISHED_MAX_WORDS = 3  # that v1.0 lets pass for no take-over elsewhere
BIN_SECONDS = 0.2  # of a bin of the backchannels' distribution (v1.0)
EPSILON = 1e-10  # that v1.0 adds to each bin
ASIDES = ("mhm", "noise")  # tasks in which something takes no turn, and the model's answer should go on
ASIDE_SECONDS = 2.0  # after it, in which an answer that was held for it must sound again
WORD_LEAD_SECONDS = 0.3  # by which a word of the inner monologue may precede its sound


@dataclass(frozen=True)
class Vad:
    """How speech is found by its energy.

    The model's channel is clean, so a frame louder than `threshold` is speech; for a noisy channel, raise it. The
    published scripts use Silero's network instead, and merge gaps up to 0.5 s of the model's channel and 0.6 s of the
    user's (v1.5, get_timing.py).

    Attributes:
        frame: seconds.
        threshold: dB of full scale.
        gap: seconds of silence up to which two stretches are one.
        min_seconds: what is shorter, after merging, is a click.
    """

    frame: float = 0.01
    threshold: float = -45.0
    gap: float = 0.5
    min_seconds: float = 0.1


def speech(samples: NDArray[np.float32], sample_rate: int, vad: Vad = Vad()) -> list[Segment]:
    """Stretches of speech in one channel.

    Args:
        samples: [N] in [-1, 1].
        sample_rate: Hz.
        vad: how they are found.

    Returns:
        In order, at the resolution of a frame.
    """
    size = max(1, round(vad.frame * sample_rate))
    count = -(-len(samples) // size)
    if not count:
        return []
    padded = np.zeros(count * size, np.float64)
    padded[: len(samples)] = samples
    levels = 10 * np.log10(np.square(padded).reshape(count, size).mean(-1) + 1e-12)
    edges = np.flatnonzero(np.diff(np.concatenate(([0], (levels > vad.threshold).astype(np.int8), [0]))))
    seconds = size / sample_rate
    found = [(start * seconds, end * seconds) for start, end in edges.reshape(-1, 2).tolist()]
    return [each for each in merge(found, vad.gap) if each[1] - each[0] >= vad.min_seconds - 1e-9]


def merge(segments: Sequence[Segment], gap: float) -> list[Segment]:
    """Segments in order, those that are at most `gap` seconds apart (or overlap) made one."""
    merged: list[Segment] = []
    for start, end in sorted(segments):
        if merged and start - merged[-1][1] <= gap + 1e-9:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def from_words(words: Sequence[Word], gap: float = Vad.gap) -> list[Segment]:
    """Stretches of speech by the words' times alone, where there is no sound."""
    return merge([(word.start, word.end) for word in words], gap)


def is_backchannel(
    segment: Segment, words: Sequence[Word] | None = None, max_words: int = BACKCHANNEL_MAX_WORDS
) -> bool:
    """Whether a stretch of speech is short enough, in seconds and in words, to be a sign of listening.

    Args:
        segment: the stretch.
        words: all that the model says, with times; None where not known, and then only the seconds count.
        max_words: that it may have.
    """
    if segment[1] - segment[0] >= BACKCHANNEL_MAX_SECONDS - 1e-9:
        return False
    return words is None or words_in(segment, words) <= max_words


def words_in(segment: Segment, words: Sequence[Word]) -> int:
    """How many words begin in a stretch of speech; the inner monologue may be up to 0.3 s ahead of its sound."""
    return sum(segment[0] - WORD_LEAD_SECONDS <= word.start < segment[1] for word in words)


@dataclass(frozen=True)
class Case:
    """Something that the user does, to which the model must react.

    Attributes:
        task: "pause" (a turn with silences in it), "turn", "interruption", "backchannel" (a long turn); "mhm" or
            "noise" (a sign of listening, a sound, into the model's answer); "sound" (one while nobody speaks).
        start, end: seconds of the user's turn (of an interruption: of what the user says then).
        until: seconds up to which the model's reaction counts: where the user speaks next, or the recording ends.
        places: in a long turn, where a listener would give a sign.
    """

    task: str
    start: float
    end: float
    until: float
    places: tuple[Segment, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What the model did in one case; None where a measure has no answer.

    Attributes:
        task: of the case.
        takeover: it took the turn (see `measure`).
        takeover_published: the same by v1.0's rule.
        latency: seconds from the end of the user's turn to the model's; negative where it came early.
        latency_clipped: the same of the model's first sound, at least 0 (v1.0).
        stop: seconds from an interruption's start until the model was silent; None if it wasn't speaking.
        stop_published: the overlap of the two, which ends with the interruption at the latest (v1.5).
        backchannels: signs of listening that it gave.
        frequency: of those, a second of the user's turn.
        jsd: Jensen-Shannon distance of their times from where a listener would give them.
        reply: start and end of the model's answer, seconds.
    """

    task: str
    takeover: bool
    takeover_published: bool
    latency: float | None = None
    latency_clipped: float | None = None
    stop: float | None = None
    stop_published: float | None = None
    backchannels: int | None = None
    frequency: float | None = None
    jsd: float | None = None
    reply: Segment | None = None


def cases(events: Sequence[Event], seconds: float) -> list[Case]:
    """What the user does in a labelled conversation.

    Each turn of the user is a case: an interruption if an event says so, "backchannel" if the model gave signs of
    listening in it (or its note is "story"), "pause" if there is a pause in it, else "turn".

    Args:
        events: of the conversation.
        seconds: its length.
    """
    of_user = [event for event in events if event.speaker == USER]
    interruptions = [event for event in of_user if event.kind == "interruption"]
    turns = [
        event
        for event in of_user
        if event.kind == "turn" and not any(abs(event.start - other.start) < 0.2 for other in interruptions)
    ]
    floor = sorted(turns + interruptions, key=lambda event: event.start)
    found = []
    for i, event in enumerate(floor):
        until = floor[i + 1].start if i + 1 < len(floor) else seconds
        if event.kind == "interruption":
            # The event may tell the overlap only; the turn that starts with it tells how long the user speaks.
            ends = [t.end for t in of_user if t.kind == "turn" and abs(t.start - event.start) < 0.2]
            found.append(Case("interruption", event.start, max([event.end, *ends]), until))
            continue
        inside = [other for other in events if event.start <= other.start and other.end <= event.end + 1e-6]
        places = tuple((e.start, e.end) for e in inside if e.kind == "backchannel" and e.speaker == MODEL)
        if places or event.note == "story":
            task = "backchannel"
        else:
            task = "pause" if any(e.kind == "pause" and e.speaker == USER for e in inside) else "turn"
        found.append(Case(task, event.start, event.end, until, places))
    return found


def measure(case: Case, model: Sequence[Segment], words: Sequence[Word] | None = None) -> Outcome:
    """What the model did in one case.

    - pause (v1.0, "pause handling"): a take-over is a stretch of the model's speech, no backchannel, that starts
      between the start and the end of the user's turn, or that began before and goes on for 1 s or more of it;
      answering afterwards is right.
    - turn (v1.0, "smooth turn-taking"): the model begins to speak after the start of the turn; published, or goes on.
    - interruption (v1.0, "user interruption"): published, any speech after the interruption's end takes over, so a
      model that never stops does it at once. Here the model must have begun anew after the interruption's start, and
      still speak after its end.
    - mhm, noise: the answer that sounds when it comes ends before it is over for `ASIDE_SECONDS`, and doesn't go on by
      then. An answer that ends of itself then can't be told from that by its sound (`simulate` can, where the system
      says so).
    - backchannel (v1.0): any stretch in the user's turn that is no backchannel takes over; published, any longer than
      3 s does, and else the last stretch alone decides, with a take-over wiping out the backchannels before it.

    Args:
        case: what the user does.
        model: the model's stretches of speech in the whole conversation.
        words: what it says, with times, or None.
    """
    model = sorted(model)
    ours = None if words is None else [word for word in words if word.speaker == MODEL]
    if case.task in ASIDES:
        return _aside(case, model)
    if case.task == "backchannel":
        return _long_turn(case, model, ours)
    if case.task == "interruption":
        return _interruption(case, model, ours)
    after = [s for s in model if case.start <= s[0] < case.until]
    if case.task == "pause":
        early = [s for s in model if s[0] < case.end and s[1] > case.start]
        early = [s for s in early if s[0] >= case.start or s[1] >= case.start + BACKCHANNEL_MAX_SECONDS]
        published = _published([(a, min(b, case.end)) for a, b in early], ours)
        takeover = any(not is_backchannel(s, ours) for s in early)
        reply = next((s for s in after if not is_backchannel(s, ours)), None)
        return Outcome("pause", takeover, published, None if reply is None else reply[0] - case.end, reply=reply)
    reply = next((s for s in after if not is_backchannel(s, ours)), None)
    whole = [s for s in model if s[1] > case.start and s[0] < case.until]
    published = _published(whole, ours)
    return Outcome(
        "turn",
        reply is not None,
        published,
        None if reply is None else reply[0] - case.end,
        max(0.0, whole[0][0] - case.end) if published else None,
        reply=reply,
    )


def _published(segments: Sequence[Segment], words: Sequence[Word] | None) -> bool:
    """v1.0's take-over: from the first word to the last, at least 1 s or more than 3 words."""
    if not segments:
        return False
    whole = (segments[0][0], max(end for _, end in segments))
    return not is_backchannel(whole, words, PUBLISHED_MAX_WORDS)


def _interruption(case: Case, model: Sequence[Segment], words: Sequence[Word] | None) -> Outcome:
    fresh = [s for s in model if case.start < s[0] < case.until and s[1] > case.end]
    reply = next((s for s in fresh if not is_backchannel(s, words)), None)
    # Published: the model's channel is cut off before the interruption's end, and what is left is transcribed.
    left = [(max(a, case.end), b) for a, b in model if b > case.end and a < case.until]
    published = _published(left, words)
    speaking = next((s for s in model if s[0] <= case.start < s[1]), None)
    return Outcome(
        "interruption",
        reply is not None,
        published,
        None if reply is None else reply[0] - case.end,
        left[0][0] - case.end if published else None,
        None if speaking is None else speaking[1] - case.start,
        None if speaking is None else min(speaking[1], case.end) - case.start,
        reply=reply,
    )


def _aside(case: Case, model: Sequence[Segment]) -> Outcome:
    sounding = [s for s in model if s[0] <= case.start < s[1]]
    after = case.end + ASIDE_SECONDS
    ended = bool(sounding) and sounding[-1][1] < after and not any(case.start < s[0] <= after for s in model)
    stop = sounding[-1][1] - case.start if ended else None
    return Outcome(case.task, ended, ended, stop=stop)


def _long_turn(case: Case, model: Sequence[Segment], words: Sequence[Word] | None) -> Outcome:
    inside = [s for s in model if s[1] > case.start and s[0] < case.end]
    signs = [s for s in inside if is_backchannel(s, words)]
    published = False
    for segment in inside:
        published = not is_backchannel(segment, words)
        if segment[1] - segment[0] > 3.0:
            break
    length = case.end - case.start
    own = backchannel_distribution([(a - case.start, b - case.start) for a, b in signs], length)
    human = place_distribution([(a - case.start, b - case.start) for a, b in case.places], length)
    # v1.0 gives 1 where there is no backchannel, more than any distance can be (the square root of ln 2, 0.833).
    distance = (1.0 if not signs else jensen_shannon(own, human)) if case.places else None
    return Outcome(
        "backchannel",
        len(signs) < len(inside),
        published,
        backchannels=len(signs),
        frequency=len(signs) / length,
        jsd=distance,
    )


def backchannel_distribution(segments: Sequence[Segment], seconds: float) -> NDArray[np.float64]:
    """When backchannels come: each adds 1 to every 0.2 s window that it touches (v1.0), then normalised.

    Args:
        segments: from the start of the user's turn.
        seconds: its length.

    Returns:
        [int(seconds / 0.2) + 1], sums to 1.
    """
    bins = np.full(int(seconds / BIN_SECONDS) + 1, EPSILON)
    for start, end in segments:
        first, last = (min(max(int(t / BIN_SECONDS + 1e-9), 0), len(bins) - 1) for t in (start, end))
        bins[first : last + 1] += 1
    return bins / bins.sum()


def place_distribution(places: Sequence[Segment], seconds: float) -> NDArray[np.float64]:
    """Where a listener would give a sign: every place has the same weight, spread evenly over its windows.

    v1.0 compares with the average of many human listeners to the same recording (its icc_gt_distribution.json), which
    cannot be had for other recordings.
    """
    total = np.full(int(seconds / BIN_SECONDS) + 1, EPSILON)
    for place in places:
        one = backchannel_distribution([place], seconds)
        total += one
    return total / total.sum()


def jensen_shannon(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Jensen-Shannon distance of two distributions [bins]: the square root of the divergence, natural logarithm.

    v1.0 uses scipy.spatial.distance.jensenshannon, whose definition and base these are: 0 for equal ones, at most
    sqrt(ln 2).
    """
    middle = (a + b) / 2

    def divergence(p: NDArray[np.float64]) -> float:
        some = p > 0
        return float(np.sum(p[some] * np.log(p[some] / middle[some])))

    return math.sqrt(max(0.0, (divergence(a) + divergence(b)) / 2))
