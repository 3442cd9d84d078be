"""Whether an answer minds how something is said: the same sentence in two tones, and plain ones that change nothing.

A hundred sentences, two tones each:

- 40 in voices that no training set has, with a laugh, a sob, a sigh or an angry sound by a person of EmoGator's test
  speakers before or after them;
- 40 said another way (whispered, shouted, soft, slow, fast), the voice taken apart and put together again;
- 20 German sentences of EmoDB's test speakers, who said each in several feelings.

A pair fits where the two answers differ and each holds a word that suits its tone (`tone_answers.json`). A second
judge, the text-only model, is told a tone and an answer and says whether they go together: it has to find each answer
better for its own tone than for the other.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from antiphon.audio.io import Audio
from antiphon.data.scene.example import RATE
from antiphon.data.scene.mixtures import Canvas, Clip, excerpt
from antiphon.errors import DataError, EvalError
from antiphon.evals.assistant import material as spoken_material
from antiphon.evals.harness import rows_of
from antiphon.evals.hearing.evaluation import HearingEvaluation
from antiphon.evals.hearing.questions import LEVEL, as_sound, changed
from antiphon.evals.metrics.answers import is_right
from antiphon.evals.report import Figure
from antiphon.evals.rows import spread

SENTENCES = Path(__file__).with_name("tone_sentences.jsonl")
ANSWERS = Path(__file__).with_name("tone_answers.json")
BURSTS = {"laughing": "amusement", "crying": "sadness", "sighing": "relief", "angry": "anger"}  # EmoGator's own names
ACTED = ("sad", "happy", "angry", "afraid", "disgusted", "bored")  # of EmoDB, the most telling first
ACTED_PAIRS = 20
PLAIN, TRIES = 100, 3  # plain questions; at both answers within a minute
JUDGED = (
    'Somebody who {how} says: "{words}"\nThe answer is: "{reply}"\nDoes the tone of the answer fit somebody who {how}? '
    "Answer yes or no."
)


@dataclass(frozen=True)
class TonePair:
    """A sentence in two tones.

    Attributes:
        id: names it.
        words: what is said.
        tones: the two.
        sounds: of the two.
        source: "bursts", "manner" or "acted".
    """

    id: str
    words: str
    tones: tuple[str, str]
    sounds: tuple[Audio, Audio]
    source: str


def tone_fits(evaluation: HearingEvaluation, n: int) -> list[Figure]:
    """Answers to sentences in two tones; and to plain ones, with and without what is heard besides the words."""
    model, answers = evaluation.model, json.loads(ANSWERS.read_text(encoding="utf-8"))
    made = pairs(evaluation, n)

    def replies(pair: TonePair) -> tuple[tuple[str, str], tuple[str, str], tuple[str, str]]:
        heard = tuple(model.hear(sound, scene=True) for sound in pair.sounds)
        scenes = tuple(str(getattr(each, "scene", None) or "") for each in heard)
        return tuple(each.text for each in heard), scenes, tuple(model.think(each) or "" for each in heard)

    heard, scenes, told = zip(*evaluation.each("tones", made, replies))
    differ = [a != b for a, b in told]
    fitting = [[is_right(r, answers[t]) for t, r in zip(pair.tones, rs)] for pair, rs in zip(made, told)]
    fits = [apart and all(each) for apart, each in zip(differ, fitting)]
    items = list(zip(made, told, strict=True))
    margins = evaluation.each("second judge", items, lambda item: judged(model.thinker, *item))
    agreed = [apart and min(each) > 0 for apart, each in zip(differ, margins)]
    columns = {"id": [p.id for p in made], "words": [p.words for p in made], "tones": [list(p.tones) for p in made]}
    columns |= {"heard": heard, "scenes": scenes, "replies": told, "fit": fitting, "margins": margins}
    evaluation.save_items("tone-fits", rows_of(columns))
    for pair in made:
        for tone, sound in zip(pair.tones, pair.sounds):
            evaluation.save_sound(f"{pair.id}-{tone}", sound)
    alike = [each for pair in fitting for each in pair]
    figures = [
        Figure("tone-fits", _share(fits), "share", ">= 0.75", None, len(made)),
        Figure("tone-replies-differ", _share(differ), "share", None, None, len(made)),
        Figure("tone-replies-fit", _share(alike), "share", None, None, len(alike)),
        Figure("tone-fits-judged", _share(agreed), "share", None, None, len(made)),
    ]
    for source in dict.fromkeys(pair.source for pair in made):
        mine = [fit for fit, pair in zip(fits, made) if pair.source == source]
        figures.append(Figure(f"tone-fits-{source}", _share(mine), "share", None, None, len(mine)))
    return [*figures, plain_unchanged(evaluation, min(n, PLAIN))]


def plain_unchanged(evaluation: HearingEvaluation, n: int) -> Figure:
    """Plain questions in quiet: the same answer, to the letter, as when words alone are heard."""
    model, clips = evaluation.model, evaluation.questions(n)

    def both(clip: spoken_material.Clip) -> tuple[str, str, str]:
        heard = model.hear(clip.audio, scene=True)
        for _ in range(TRIES):
            minute = datetime.now().minute
            replies = model.think(heard), model.think(without_scene(heard))
            if datetime.now().minute == minute:  # which the prompt tells, and an answer may turn on
                break
        return *replies, str(getattr(heard, "scene", None) or "")

    minding, plain, scenes = zip(*evaluation.each("plain questions", clips, both))
    same = [a == b for a, b in zip(minding, plain)]
    columns = {
        "question": [clip.text for clip in clips],
        "reply": minding,
        "plain": plain,
        "same": same,
        "scene": scenes,
    }
    evaluation.save_items("plain-unchanged", rows_of(columns))
    return Figure("plain-unchanged", _share(same), "share", ">= 0.95", None, len(same))


def without_scene(heard: Any) -> Any:
    """The words alone."""
    return replace(heard, scene=None) if getattr(heard, "scene", None) is not None else heard


def judged(thinker: Any, pair: TonePair, replies: tuple[str, str]) -> tuple[float, float]:
    """How much likelier each answer is found to fit its own tone than the other, -1 to 1, by the text-only model."""
    own = [_fit(thinker, pair.words, tone, reply) for tone, reply in zip(pair.tones, replies)]
    swapped = [_fit(thinker, pair.words, tone, reply) for tone, reply in zip(pair.tones[::-1], replies)]
    return own[0] - swapped[0], own[1] - swapped[1]


def _fit(thinker: Any, words: str, tone: str, reply: str) -> float:
    state = thinker.init_state(voice=False)
    thinker.add_message(state, "user", JUDGED.format(how=manner_of(tone), words=words, reply=reply))
    yes, no = (math.exp(each) for each in thinker.likelihoods(state, "", ["Yes", "No"]))
    return yes / (yes + no)


def manner_of(tone: str) -> str:
    """ "whispers", "sounds sad": how somebody is said to speak."""
    done = {"whispered": "whispers", "shouted": "shouts", "laughing": "laughs", "crying": "cries", "sighing": "sighs"}
    how = {"fast": "speaks fast", "slow": "speaks slowly", "soft": "speaks softly"}
    return done.get(tone) or how.get(tone) or f"sounds {tone}"


# Making them


def pairs(evaluation: HearingEvaluation, n: int) -> list[TonePair]:
    """`n` of the hundred, always the same ones, of every kind."""
    acted = acted_pairs(evaluation)
    rows = read_sentences()
    places = spread([*((None, row) for row in rows), *((pair, None) for pair in acted)], n)
    wanted = [row for _, row in places if row is not None]
    clips = iter(spoken_material.spoken([words for words, _ in wanted], evaluation.cached("tone-sentences")))
    made = [pair if row is None else _made(evaluation, row, next(clips)) for pair, row in places]
    if not made:
        raise EvalError("There are no sentences to be said in two tones.")
    return made


def read_sentences(path: Path = SENTENCES) -> list[tuple[str, tuple[str, str]]]:
    """Sentences with two tones each.

    Raises:
        DataError: the file can't be read.
    """
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return [(row["sentence"], (row["tones"][0], row["tones"][1])) for row in rows]
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise DataError(f"{path} has no sentences with two tones that can be read: {error}.") from error


def _made(evaluation: HearingEvaluation, row: tuple[str, tuple[str, str]], spoken: spoken_material.Clip) -> TonePair:
    words, tones = row
    draw = np.random.default_rng([evaluation.config.seed, int(hashlib.sha256(words.encode()).hexdigest()[:8], 16)])
    samples = spoken.audio.mono().resample(RATE).samples.float().numpy()
    bursts = tones[0] in BURSTS
    sounds = []
    for tone in tones:
        if not bursts:
            sounds.append(as_sound(np.pad(changed(samples, tone, draw), int(0.3 * RATE))))
            continue
        burst, said = _burst(evaluation, tone, draw), Clip(samples, ())
        canvas, at = Canvas.empty(0.9 + burst.seconds + said.seconds), 0.3
        for clip in (burst, said) if draw.random() < 0.5 else (said, burst):
            canvas.put(clip, at, LEVEL)
            at += clip.seconds + 0.3
        sounds.append(as_sound(canvas.samples))
    return TonePair(f"tone-{spoken.id}", words, tones, (sounds[0], sounds[1]), "bursts" if bursts else "manner")


def _burst(evaluation: HearingEvaluation, tone: str, draw: np.random.Generator) -> Clip:
    """A laugh, a sob, a sigh or an angry sound of a test speaker."""
    material = evaluation.recordings("emogator")
    some = [
        each
        for each in material.found
        if each.split == "test" and str(each.recording.about.get("emotion")) == BURSTS[tone]
    ]
    return excerpt(material.load(some[int(draw.integers(len(some)))]), 2.5, draw)


def acted_pairs(evaluation: HearingEvaluation) -> list[TonePair]:
    """What EmoDB's test speakers said in two feelings or more, the two that are most apart."""
    material, found = evaluation.recordings("emodb"), {}
    for each in material.found:
        if each.split == "test" and each.label("feeling") in ACTED:
            by_feeling = found.setdefault((each.original, each.recording.text), {})
            by_feeling.setdefault(each.label("feeling"), each)
    made = []
    for (speaker, words), by_feeling in sorted(found.items()):
        feelings = [feeling for feeling in ACTED if feeling in by_feeling][:2]
        if len(feelings) == 2:
            sounds = [as_sound(material.load(by_feeling[feeling]).samples) for feeling in feelings]
            name = f"acted-{speaker}-{hashlib.sha256(words.encode()).hexdigest()[:6]}"
            made.append(TonePair(name, words, (feelings[0], feelings[1]), (sounds[0], sounds[1]), "acted"))
    return made[:ACTED_PAIRS]


def _share(values: Sequence[bool]) -> float:
    return sum(map(bool, values)) / len(values)
