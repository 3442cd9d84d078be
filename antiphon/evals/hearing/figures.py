"""Every figure of hearing (`antiphon eval hearing`), in groups that share their work."""

from __future__ import annotations

from antiphon.evals.harness import Group
from antiphon.evals.hearing import classes, cost, music, questions, times, tone, words


def _both(*names: str) -> tuple[str, ...]:
    """Figures, and the probe's beside each."""
    return tuple(each for name in names for each in (name, f"{name}-probe"))


_KINDS = tuple(f"kind-accuracy-{kind}" for kind in times.KINDS)
_ASKED = tuple(f"sound-questions-right-{kind.replace(' ', '-')}" for kind in questions.KINDS)
_TONES = tuple(f"tone-fits-{source}" for source in ("bursts", "manner", "acted"))

GROUPS: dict[str, Group] = {
    "first-audio": Group(cost.first_audio, 20, ("first-audio-added-ms",), alone=True),
    "memory": Group(cost.memory, 1, ("memory-added-mb",), alone=True),
    "emotion": Group(classes.emotion, 1000, _both("emotion-accuracy")),
    "four-feelings": Group(classes.four_feelings, 1000, _both("four-feelings-accuracy")),
    "sounds": Group(classes.sounds, 1000, _both("sounds-accuracy")),
    "instrument": Group(classes.instruments, 200, _both("instrument-accuracy")),
    "sex": Group(classes.sex, 1000, _both("sex-accuracy")),
    "manner": Group(classes.manner, 400, _both("fast-slow-accuracy", "loud-soft-accuracy", "question-accuracy")),
    "speakers": Group(classes.speakers, 200, _both("speakers-accuracy")),
    "mixtures": Group(times.kinds_and_events, 300, _both("kind-accuracy", "kind-all-four-right", "events-f1", *_KINDS)),
    "tempo": Group(
        music.tempo, 300, _both("tempo-accuracy", "tempo-octaves", "tempo-loops-accuracy", "tempo-loops-octaves")
    ),
    "questions": Group(questions.sound_questions, 300, ("sound-questions-right", *_ASKED)),
    "tone": Group(
        tone.tone_fits,
        100,
        ("tone-fits", "tone-replies-differ", "tone-replies-fit", "tone-fits-judged", *_TONES, "plain-unchanged"),
    ),
    "text": Group(cost.text, 40, ("text-unchanged",)),
    "words": Group(words.added_errors, 300, ("wer-added-unseen-voices", "wer-added-real-speech")),
    "languages": Group(words.languages, 240, ("language-accuracy",)),
    "foreign": Group(
        words.foreign, 400, ("wer-added-foreign", *(f"wer-added-foreign-{each}" for each in words.FOREIGN))
    ),
    "word-times": Group(words.word_times, 100, ("word-times-ms",)),
}
