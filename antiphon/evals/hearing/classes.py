"""Which of several labels is true of a recording: feeling, sound, instrument, sex, manner, number of speakers.

Each figure stands beside a linear probe on Whisper's last layer that learned from the training split, and the probe's
beside chance: the share that always saying the commonest label would get.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from antiphon.data.scene.make import Material, Sources
from antiphon.data.scene.splits import SPLITS
from antiphon.errors import EvalError
from antiphon.evals.harness import rows_of
from antiphon.evals.hearing.evaluation import HearingEvaluation, Recorded, likeliest
from antiphon.evals.hearing.probe import probe
from antiphon.evals.report import Figure
from antiphon.evals.rows import spread
from antiphon.models.scene.labels import GROUPS
from antiphon.models.scene.listener import SceneListener
from antiphon.models.scene.scene import Scene

FEELINGS = ("neutral", "happy", "sad", "angry", "afraid", "disgusted", "bored")  # of EmoDB
FOUR_FEELINGS = ("neutral", "happy", "sad", "angry")
INSTRUMENTS = ("piano", "guitar", "bass", "drums", "violin", "flute", "trumpet", "organ", "voice", "synthesizer")
MOST = 12  # recordings of one instrument, of some of which there are many
READERS = 60  # of each split


@dataclass(frozen=True)
class Choice:
    """A choice between labels.

    Attributes:
        name: of the figure, without "-accuracy".
        labels: to choose from.
        truth: the right label of a recording; "" where it has none of them, or nobody knows.
        tell: which one a scene tells; "" for none.
        bar: what the figure must reach.
    """

    name: str
    labels: tuple[str, ...]
    truth: Callable[[Recorded], str]
    tell: Callable[[Scene], str]
    bar: str | None = None


def choice(name: str, group: str, labels: Sequence[str], bar: str | None = None) -> Choice:
    """A choice between labels of one group: the likeliest is told."""
    labels = tuple(labels)
    return Choice(name, labels, lambda each: each.label(group, labels), likeliest(labels, group), bar)


def measured(
    evaluation: HearingEvaluation,
    of: Choice,
    train: Sequence[Recorded],
    test: Sequence[Recorded],
    listener: SceneListener | None,
    each_label_alike: bool = False,
) -> list[Figure]:
    """How often the right label is told; beside it the probe, and chance.

    Args:
        evaluation: keeps the items and draws the confusions.
        of: the choice.
        train: what the probe learns from.
        test: what is asked; those without a right label are passed over.
        listener: what is measured; None measures the probe alone.
        each_label_alike: the mean over labels of the share that is right, where of some there are many more.

    Raises:
        EvalError: nothing to learn from, or to ask.
    """
    test, train = ([each for each in some if of.truth(each)] for some in (test, train))
    truth, taught = [of.truth(each) for each in test], [of.truth(each) for each in train]
    if not test or len(set(taught)) < 2:
        raise EvalError(f"There are no recordings for {of.name}: {len(test)} to ask, {len(train)} to learn from.")
    score = balanced if each_label_alike else accuracy
    probed = probe(train, taught)(test)
    scenes = evaluation.scenes(of.name, test, listener)
    told = [of.tell(scene) for scene in scenes] if scenes is not None else None
    columns = {"id": [each.example.id for each in test], "source": [each.example.source for each in test]}
    columns |= {"right": truth, "probe": probed} | ({"told": told} if told is not None else {})
    evaluation.save_items(of.name, rows_of(columns))
    if evaluation.config.pictures is not None:
        from antiphon.evals.plots import draw_confusion

        evaluation.config.pictures.mkdir(parents=True, exist_ok=True)
        title = f"{of.name}: {'network' if told is not None else 'linear probe'}, n={len(test)}"
        shown = told if told is not None else probed
        draw_confusion(truth, shown, of.labels, title, evaluation.config.pictures / f"{of.name}.png")
    name, reached = f"{of.name}-accuracy", score(truth, probed)
    figures = [Figure(name, score(truth, told), "share", of.bar, reached, len(test))] if told is not None else []
    return [*figures, Figure(f"{name}-probe", reached, "share", None, chance(truth, each_label_alike), len(test))]


def accuracy(truth: Sequence[str], told: Sequence[str]) -> float:
    """The share that is right."""
    return statistics.fmean(a == b for a, b in zip(truth, told, strict=True))


def balanced(truth: Sequence[str], told: Sequence[str]) -> float:
    """The mean over the right labels of the share that is right."""
    pairs = list(zip(truth, told, strict=True))
    return statistics.fmean(statistics.fmean(b == label for a, b in pairs if a == label) for label in set(truth))


def chance(truth: Sequence[str], each_label_alike: bool = False) -> float:
    """What always saying the commonest label would get."""
    return 1 / len(set(truth)) if each_label_alike else max(Counter(truth).values()) / len(truth)


# The figures


def emotion(evaluation: HearingEvaluation, n: int) -> list[Figure]:
    """Seven feelings of EmoDB's test speakers."""
    train, test = (evaluation.whole("emodb", split, "feeling") for split in ("train", "test"))
    of = choice("emotion", "feeling", FEELINGS, ">= 0.85")
    return measured(evaluation, of, train, spread(test, n), evaluation.listener)


def four_feelings(evaluation: HearingEvaluation, n: int) -> list[Figure]:
    """Four feelings in a corpus that nothing was trained on: the one that is given, or EmoDB by a network without it.

    The probe learned from EmoDB where another corpus is asked, from EmoGator's bursts where EmoDB is.
    """
    of, config = choice("four-feelings", "feeling", FOUR_FEELINGS, ">= 0.6"), evaluation.config
    if config.feelings is not None:
        material = Material(Sources(recordings=[str(config.feelings)]))
        some = spread([each for each in material.found if each.label("feeling") in FOUR_FEELINGS], n)
        jobs = [(each.recording.id, partial(material.load, each), "test") for each in some]
        test, train = evaluation.encoded(f"feelings-{config.feelings.name}", jobs), evaluation.whole("emodb", "train")
        return measured(evaluation, of, train, test, evaluation.listener, True)
    every = [each for split in SPLITS for each in evaluation.whole("emodb", split, "feeling") if of.truth(each)]
    # The model's own network knows EmoDB: without another one the probe alone can be asked.
    listener = SceneListener.from_pretrained(config.without_emodb) if config.without_emodb is not None else None
    return measured(evaluation, of, evaluation.whole("emogator", "train", "feeling"), spread(every, n), listener, True)


def sounds(evaluation: HearingEvaluation, n: int) -> list[Figure]:
    """Ten sounds of ESC-10's test fold."""
    train, test = (evaluation.whole("esc10", split, "event") for split in ("train", "test"))
    labels = sorted({each.label("event") for each in train})
    of = choice("sounds", "event", labels, ">= 0.92")
    return measured(evaluation, of, train, spread(test, n), evaluation.listener)


def instruments(evaluation: HearingEvaluation, n: int) -> list[Figure]:
    """Real single sounds of ten instruments, each as often as any other; learned from rendered ones."""
    of = choice("instrument", "instrument", INSTRUMENTS, ">= 0.7")
    real = [each for name in ("sonic-pi", "sms-tools") for each in evaluation.whole(name, "test", "instrument")]
    test = [each for label in INSTRUMENTS for each in [e for e in real if of.truth(e) == label][:MOST]]
    train = evaluation.made("instrument", "train", 400)
    return measured(evaluation, of, train, spread(test, n), evaluation.listener, True)


def sex(evaluation: HearingEvaluation, n: int) -> list[Figure]:
    """Women and men: EmoDB's test speakers, and readers whose pitch is clearly one or the other."""
    train, test = evaluation.whole("emodb", "train"), evaluation.whole("emodb", "test")
    if evaluation.has("librispeech"):
        train, test = (some + evaluation.whole("librispeech", split, most=READERS)
                       for some, split in ((train, "train"), (test, "test")))  # fmt: skip
    of = choice("sex", "sex", GROUPS["sex"].names, ">= 0.95")
    return measured(evaluation, of, train, spread(test, n), evaluation.listener)


def manner(evaluation: HearingEvaluation, n: int) -> list[Figure]:
    """Fast or slow, loud or soft, asked or not by its tone alone: test speakers, changed."""
    train, test = evaluation.made("manner", "train", 600), evaluation.made("manner", "test", n)
    figures = []
    for name, labels, bar in (("fast-slow", ("fast", "slow"), ">= 0.9"), ("loud-soft", ("loud", "soft"), ">= 0.95")):
        figures += measured(evaluation, choice(name, "manner", labels, bar), train, test, evaluation.listener)
    return figures + measured(evaluation, _told("question", ">= 0.8"), train, test, evaluation.listener)


def speakers(evaluation: HearingEvaluation, n: int) -> list[Figure]:
    """One speaker or two, in turn or at once: test speakers, put together."""
    train, test = evaluation.made("conversation", "train", 300), evaluation.made("conversation", "test", n)

    def tell(scene: Scene) -> str:
        chances = scene.chances.get("speakers", {})
        more = max(chances.get("in_turn", 0.0), chances.get("at_once", 0.0))
        return "two" if more > chances.get("one", 0.0) else "one"

    def truth(each: Recorded) -> str:
        found = {span.label for span in each.example.spans if span.group == "speakers"}
        return "two" if found & {"in_turn", "at_once"} else "one" if found else ""

    of = Choice("speakers", ("one", "two"), truth, tell, ">= 0.9")
    return measured(evaluation, of, train, test, evaluation.listener)


def _told(label: str, bar: str) -> Choice:
    """Whether a manner is told or not, as its own threshold says."""

    def truth(each: Recorded) -> str:
        there = each.has("manner", label)
        return "" if there is None else label if there else "not"

    def tell(scene: Scene) -> str:
        return label if any(event.label == label for event in scene.of("manner")) else "not"

    return Choice(label, (label, "not"), truth, tell, bar)
