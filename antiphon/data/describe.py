"""What a set on disk holds, told in a few lines: `antiphon data info`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from antiphon.data.codes import CodeSet
from antiphon.data.dialogue.codes import DialogueCodes
from antiphon.data.preferences.pairs import FILE, PreferencePairs
from antiphon.data.preferences.samples import Sample, SampleSet
from antiphon.data.scene.encoded import EncodedSet
from antiphon.data.scene.splits import SPLITS
from antiphon.data.speech.utterances import SpeechSet
from antiphon.data.store import kind_of
from antiphon.models.scene.labels import TEMPO


def describe(folder: str | Path) -> Iterator[tuple[str, str]]:
    """What a set holds, as (name, value) lines.

    Raises:
        DataError: no set there.
    """
    kind = kind_of(folder)
    if kind in ("codes", "dialogues"):
        yield from _describe_codes(CodeSet(folder) if kind == "codes" else DialogueCodes(folder))
        return
    if kind == "scenes":
        yield from _describe_scenes(EncodedSet(folder))
        return
    if kind == "samples":
        yield from _describe_samples(SampleSet(folder))
        return
    speech = SpeechSet(folder)
    yield "folder", str(speech.folder)
    yield "sample rate", f"{speech.sample_rate} Hz"
    yield "utterances", f"{len(speech)}"
    yield "hours", f"{speech.duration / 3600:.2f}"
    if not len(speech):
        return
    lengths = np.array([utterance.duration for utterance in speech.utterances])
    yield "seconds", f"{lengths.min():.1f} to {lengths.max():.1f}, median {np.median(lengths):.1f}"
    yield "words", f"{sum(len(utterance.text.split()) for utterance in speech.utterances)}"
    yield "phoneme times", f"{np.mean([bool(utterance.phonemes) for utterance in speech.utterances]):.0%}"
    for name in ("voice", "role", "source"):
        values = [getattr(utterance, name) for utterance in speech.utterances]
        for value in sorted(set(values)):
            hours = lengths[[other == value for other in values]].sum() / 3600
            yield f"{name} {value or '-'}", f"{values.count(value)} utterances, {hours:.2f} hours"


def _describe_scenes(scenes: EncodedSet) -> Iterator[tuple[str, str]]:
    yield "examples", f"{len(scenes.examples)}"
    yield "hours", f"{sum(each.seconds for each in scenes.examples) / 3600:.2f}"
    for split in SPLITS:
        some = [each for each in scenes.examples if each.split == split]
        yield split, f"{len(some)} examples, {sum(each.seconds for each in some) / 3600:.2f} hours"
    labels = Counter(label for each in scenes.examples for label in {(span.group, span.label) for span in each.spans})
    for (group, label), count in sorted(labels.items()):
        if group != TEMPO:
            yield f"{group} {label}", f"{count} examples"
    tempos = [float(span.label) for each in scenes.examples for span in each.spans if span.group == TEMPO]
    if tempos:
        yield TEMPO, f"{min(tempos):.0f} to {max(tempos):.0f}, {len(tempos)} examples"


def _describe_samples(samples: SampleSet) -> Iterator[tuple[str, str]]:
    """With the spread of each measure within a prompt: between the two is what choosing can win."""
    prompts: dict[str, list[Sample]] = {}
    for sample in samples:
        prompts.setdefault(sample.prompt, []).append(sample)
    yield "folder", str(samples.folder)
    yield "prompts", f"{len(prompts)}"
    yield "samples", f"{len(samples)}"
    names = {name for each in samples for name, value in each.measured.items() if isinstance(value, (int, float))}
    for name in sorted(names):
        values = [[float(each.measured[name]) for each in group] for group in prompts.values()]
        lowest, mean, highest = (np.mean([pick(group) for group in values]) for pick in (min, np.mean, max))
        yield name, f"{mean:.4g} on average, {lowest:.4g} to {highest:.4g} within a prompt"
    if (samples.folder / FILE).is_file():
        yield "pairs", f"{len(PreferencePairs(samples.folder))}"


def _describe_codes(codes: CodeSet | DialogueCodes) -> Iterator[tuple[str, str]]:
    info = codes.info
    yield "folder", str(codes.folder)
    yield "codec", f"{info.codec or '-'} ({info.fingerprint or '-'})"
    yield "codebooks", f"{info.codebooks} of {info.codebook_size or '-'}"
    yield "recordings" if isinstance(codes, CodeSet) else "dialogues", f"{len(codes)}"
    yield "frames", f"{codes.frames.sum()}"
    if info.frame_rate:  # sets of one voice of older versions don't know it
        yield "frame rate", f"{info.frame_rate} Hz"
        yield "hours", f"{codes.frames.sum() / info.frame_rate / 3600:.2f}"
    if isinstance(codes, CodeSet) and len(codes):
        yield "texts", f"{np.mean([bool(row.text) for row in codes.rows]):.0%}"
        yield "phone times", f"{np.mean([bool(row.phones) for row in codes.rows]):.0%}"
