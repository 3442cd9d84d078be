"""Music of known tempo and instruments: written as MIDI from drawn patterns, played by FluidSynth.

Needs the package mido, the program `fluidsynth` and a General MIDI sound font (Debian: fluidsynth, fluid-soundfont-gm).
A pattern is a number; a hash of it decides which patterns train and which measure (`splits.split_of`), so that a tempo
is measured on rhythms that were never trained on.
"""

from __future__ import annotations

import functools
import math
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.random import Generator

from antiphon.audio import io
from antiphon.data.scene.example import RATE, Example, silences
from antiphon.data.scene.labelled import spans_of
from antiphon.data.scene.splits import split_of
from antiphon.data.speech.augment import Samples, scale_peak
from antiphon.errors import DataError

PATTERNS = 1000
TICKS = 480  # a beat
FONTS = (
    "/usr/share/sounds/sf2/FluidR3_GM.sf2",
    "/usr/share/sounds/sf2/default-GM.sf2",
    "/usr/share/soundfonts/FluidR3_GM.sf2",
    "/usr/share/sounds/sf3/MuseScore_General_Lite.sf3",
)
# General MIDI's programs, from 0, and the notes that the instrument is usually played in.
INSTRUMENTS: dict[str, tuple[tuple[int, ...], tuple[int, int]]] = {
    "piano": ((0, 1, 2, 3, 4, 5), (36, 88)),
    "guitar": ((24, 25, 26, 27, 28, 29, 30), (40, 76)),
    "bass": ((32, 33, 34, 35, 36, 37, 38, 39), (28, 52)),
    "violin": ((40, 41), (55, 93)),
    "cello": ((42,), (36, 69)),
    "flute": ((72, 73), (60, 93)),
    "clarinet": ((71,), (50, 86)),
    "saxophone": ((64, 65, 66, 67), (42, 80)),
    "oboe": ((68, 69), (52, 86)),
    "trumpet": ((56, 59), (52, 82)),
    "trombone": ((57,), (40, 70)),
    "tuba": ((58,), (28, 56)),
    "organ": ((16, 17, 18, 19, 20), (36, 84)),
    "accordion": ((21, 23), (48, 84)),
    "harp": ((46,), (36, 92)),
    "harpsichord": ((6,), (40, 84)),
    "marimba": ((11, 12, 13), (48, 88)),
    "bell": ((9, 10, 14), (60, 92)),
    "strings": ((48, 49, 50, 51), (40, 84)),
    "voice": ((52, 53, 54), (48, 79)),
    "synthesizer": ((80, 81, 82, 83, 84, 85, 86, 87, 88, 89, 90, 91, 95), (40, 84)),
}
KICK, SNARE, CLAP, RIM, CLOSED, OPEN, RIDE, CRASH, TAMBOURINE, COWBELL, SHAKER = (
    36,
    38,
    39,
    37,
    42,
    46,
    51,
    49,
    54,
    56,
    70,
)
TOMS = (41, 45, 48, 50)
KITS = (0, 0, 0, 8, 16, 24, 25, 32, 40)  # standard, room, power, electronic, TR-808, jazz, brush
SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 4, 7, 9), (0, 3, 5, 7, 10))
CHORDS = ((0, 3, 4, 0), (0, 5, 3, 4), (0, 4, 5, 3), (0, 0, 3, 4), (5, 3, 0, 4), (0, 2, 3, 3), (1, 4, 0, 0))
MELODIC = tuple("piano guitar violin flute clarinet saxophone trumpet synthesizer bell marimba oboe".split())
ACCOMPANYING = tuple("piano guitar organ strings accordion harp harpsichord synthesizer voice".split())


@dataclass(frozen=True)
class Note:
    """One note: `start` and `length` in beats, `key` and `velocity` as MIDI's, `channel` 9 for drums."""

    start: float
    length: float
    key: int
    velocity: int
    channel: int


@dataclass(frozen=True)
class Score:
    """What is to be played.

    Attributes:
        tempo: beats a minute.
        notes: of all instruments.
        programs: of the channels.
        instruments: our names of what plays.
    """

    tempo: float
    notes: tuple[Note, ...]
    programs: dict[int, int]
    instruments: tuple[str, ...]


def patterns(split: str) -> list[int]:
    """Numbers of the patterns of one split."""
    return [number for number in range(PATTERNS) if split_of(f"pattern {number}") == split]


def compose(pattern: int, tempo: float, seconds: float, generator: Generator) -> Score:
    """A piece.

    Args:
        pattern: its rhythm, chords and instruments: the same number always gives the same.
        tempo: beats a minute.
        seconds: how long it plays.
        generator: draws key, sounds, velocities and small irregularities.
    """
    of = np.random.default_rng([pattern, 17])  # what makes the pattern
    meter = int(of.choice([4, 4, 4, 4, 3]))
    swing = float(of.choice([0.0, 0.0, 0.0, 0.17]))
    style = str(of.choice(["full", "full", "drums", "no drums", "no drums", "sparse"]))
    drums = _drum_bar(of, meter) if style != "no drums" else []
    chords = CHORDS[int(of.integers(len(CHORDS)))]
    bass = _rhythm(of, meter, float(of.choice([0.25, 0.5, 0.5, 1.0])), 0.7)
    comping = _rhythm(of, meter, float(of.choice([0.5, 0.5, 1.0, 1.0])), float(of.uniform(0.4, 0.9)))
    melody = [_rhythm(of, meter, 0.5, float(of.uniform(0.4, 0.8))) for _ in range(2)]
    arpeggio, held = bool(of.random() < 0.4), bool(of.random() < 0.25)
    parts = {
        "full": ("bass", "comping", "melody"), "drums": (), "no drums": ("bass", "comping", "melody"),
        "sparse": (str(of.choice(["bass", "comping", "melody"])),),
    }[style]  # fmt: skip
    if style == "no drums" and of.random() < 0.3:
        parts = ("comping",) if of.random() < 0.5 else ("melody", "bass")
    held &= bool(drums) or len(parts) > 1  # chords alone, one a bar, would have no beat
    names = {"bass": "bass", "comping": str(of.choice(ACCOMPANYING)), "melody": str(of.choice(MELODIC))}
    scale = SCALES[int(of.integers(len(SCALES)))]
    steps = of.integers(-2, 3, 64)

    root, bars = int(generator.integers(0, 12)), math.ceil(seconds * tempo / 60 / meter)
    programs = {c: int(generator.choice(INSTRUMENTS[names[part]][0])) for c, part in enumerate(parts)}
    notes: list[Note] = []

    def play(start: float, length: float, key: int, velocity: float, channel: int) -> None:
        beat = math.floor(start * 2)
        late = swing if beat % 2 else 0.0  # off-beats come later in swing
        start = max(0.0, start + late + float(generator.normal(0.0, 0.008)))
        notes.append(
            Note(
                start,
                length,
                int(np.clip(key, 0, 127)),
                int(np.clip(velocity + generator.normal(0, 6), 25, 127)),
                channel,
            )
        )

    degree = int(generator.integers(0, 5))
    for bar in range(bars):
        begin, chord = bar * meter, chords[bar % 4]
        for at, key, velocity in drums:
            play(begin + at, 0.2, key, velocity, 9)
        if drums and bar % 4 == 3 and generator.random() < 0.5:
            for number in range(4):
                play(begin + meter - 1 + number / 4, 0.2, TOMS[number % len(TOMS)], 90, 9)
        for channel, part in enumerate(parts):
            low, high = INSTRUMENTS[names[part]][1]
            if part == "bass":
                for number, at in enumerate(bass):
                    step = chord if number % 3 < 2 else chord + 4
                    play(begin + at, 0.4, _key(step, scale, root, low), 100 if at == 0 else 88, channel)
            elif part == "comping":
                triad = [_key(chord + third, scale, root, max(low, 48)) for third in (0, 2, 4)]
                for number, at in enumerate([0.0] if held else comping):
                    length = meter * 0.95 if held else 0.45
                    for key in [triad[number % 3]] if arpeggio and not held else triad:
                        play(begin + at, length, key, 84 if at == int(at) else 72, channel)
            else:
                for number, at in enumerate(melody[bar % 2]):
                    degree = int(np.clip(degree + steps[(bar % 4 * 16 + number) % 64], -3, 9))
                    play(begin + at, 0.45, _key(degree, scale, root, min(max(low, 60), high - 24)), 94, channel)
    if drums:
        programs[9] = int(generator.choice(KITS))
    told = tuple(dict.fromkeys([names[part] for part in parts] + (["drums"] if drums else [])))
    return Score(tempo, tuple(notes), programs, told)


def _key(degree: int, scale: tuple[int, ...], root: int, low: int) -> int:
    """MIDI key of a scale's degree, from the first root at or over `low` on."""
    base = low + (root - low) % 12
    octave, step = divmod(degree, len(scale))
    return base + 12 * octave + scale[step]


def _rhythm(of: Generator, meter: int, grid: float, density: float) -> list[float]:
    """Beats of a bar at which something plays: always the first, mostly the others on the beat, some between."""
    found = [0.0]
    for step in range(1, round(meter / grid)):
        at = step * grid
        if of.random() < (density if at == int(at) else 0.6 * density):
            found.append(at)
    return found


def _drum_bar(of: Generator, meter: int) -> list[tuple[float, int, int]]:
    """(beat, key, velocity) of one bar of drums: a kick on one, a backbeat mostly, a steady cymbal mostly."""
    bar: list[tuple[float, int, int]] = []
    snare = int(of.choice([SNARE, SNARE, CLAP, RIM]))
    kind = str(of.choice(["backbeat", "backbeat", "four", "half", "free"])) if meter == 4 else "waltz"
    if kind == "four":
        bar += [(beat, KICK, 110) for beat in range(meter)]
    else:
        bar += [(0.0, KICK, 112)]
        bar += [(at, KICK, 96) for at in np.arange(0.5, meter, 0.5) if at not in (1.0, 3.0) and of.random() < 0.22]
        bar += [(2.0, KICK, 104)] if kind == "backbeat" and of.random() < 0.7 else []
    backbeats = {"backbeat": (1.0, 3.0), "four": (1.0, 3.0), "half": (2.0,), "waltz": (1.0, 2.0), "free": (3.0,)}[kind]
    bar += [(at, snare, 104) for at in backbeats]
    bar += [(at + 0.25, snare, 48) for at in range(meter) if of.random() < 0.12]
    cymbal = int(of.choice([CLOSED, CLOSED, RIDE, TAMBOURINE, SHAKER, COWBELL]))
    grid = float(of.choice([1.0, 0.5, 0.5, 0.25])) if of.random() < 0.85 else 0.0
    if grid:
        bar += [(at, cymbal, 84 if at == int(at) else 64) for at in np.arange(0.0, meter, grid)]
        if of.random() < 0.3:
            bar.append((meter - 0.5, OPEN, 78))
    return bar


def phrase(instrument: str, generator: Generator) -> Score:
    """One instrument alone: a held note, a few notes, a scale, or chords where it can; of "drums" a few strokes."""
    tempo = float(generator.uniform(60.0, 180.0))
    count = int(generator.choice([1, 2, 4, 6, 10]))
    length = float(generator.choice([0.25, 0.5, 1.0, 2.0])) if count > 1 else float(generator.uniform(0.5, 6.0))
    if instrument == "drums":
        kit = [KICK, SNARE, CLAP, RIM, CLOSED, OPEN, RIDE, CRASH, TAMBOURINE, COWBELL, *TOMS]
        mine = generator.choice(kit, int(generator.integers(1, 4)), replace=False)
        notes = [
            Note(
                number * float(min(length, 1.0)), 0.2, int(generator.choice(mine)), int(generator.integers(60, 127)), 9
            )
            for number in range(count)
        ]
        return Score(tempo, tuple(notes), {9: int(generator.choice(KITS))}, ("drums",))
    programs, (low, high) = INSTRUMENTS[instrument]
    chords = instrument in ACCOMPANYING and generator.random() < 0.35
    scale = SCALES[int(generator.integers(len(SCALES)))]
    root, degree = int(generator.integers(12)), int(generator.integers(-2, 12))
    step = int(generator.choice([0, 1, -1, 2]))
    base = int(generator.integers(low, max(low + 1, high - 24)))
    notes = []
    for number in range(count):
        velocity = int(generator.integers(55, 120))
        for third in (0, 2, 4) if chords else (0,):
            key = int(np.clip(_key(degree + third, scale, root, base), low, high))
            notes.append(Note(number * length, length * float(generator.uniform(0.5, 1.0)), key, velocity, 0))
        degree += step if step else int(generator.integers(-3, 4))
    return Score(tempo, tuple(notes), {0: int(generator.choice(programs))}, (instrument,))


def note(instrument: str, generator: Generator) -> Score:
    """One note or chord of an instrument, one stroke of a drum or cymbal: as single sounds come."""
    velocity, length = int(generator.integers(50, 127)), float(np.exp(generator.uniform(np.log(0.1), np.log(3.0))))
    if instrument == "drums":
        strokes = (Note(0.0, 0.2, int(generator.integers(35, 71)), velocity, 9),)
        return Score(60.0, strokes, {9: int(generator.choice(KITS))}, ("drums",))
    programs, (low, high) = INSTRUMENTS[instrument]
    key = int(generator.integers(low, high + 1))
    chord = (0, 4, 7) if instrument in ACCOMPANYING and generator.random() < 0.2 else (0,)
    notes = tuple(Note(0.0, length, min(key + step, 127), velocity, 0) for step in chord)
    return Score(60.0, notes, {0: int(generator.choice(programs))}, (instrument,))


def to_midi(score: Score, path: Path) -> None:
    """Writes a score as a MIDI file."""
    try:
        import mido
    except ImportError as error:
        raise DataError(f"Writing music needs the package mido ({error}): pip install 'antiphon[scene]'.") from None
    file, track = mido.MidiFile(ticks_per_beat=TICKS), mido.MidiTrack()
    file.tracks.append(track)
    track.append(mido.MetaMessage("set_tempo", tempo=round(60_000_000 / score.tempo)))
    for channel, program in score.programs.items():
        track.append(mido.Message("program_change", channel=channel, program=program))
    events = []
    for note in score.notes:
        events.append((round(note.start * TICKS), 1, "note_on", note))
        events.append((round((note.start + note.length) * TICKS), 0, "note_off", note))
    at = 0
    for tick, _, name, note in sorted(events, key=lambda event: event[:2]):
        velocity = note.velocity if name == "note_on" else 0
        track.append(mido.Message(name, channel=note.channel, note=note.key, velocity=velocity, time=tick - at))
        at = tick
    file.save(path)


@functools.cache
def sound_fonts() -> tuple[str, ...]:
    """The General MIDI sound fonts there are, each once.

    Raises:
        DataError: none, or no FluidSynth.
    """
    found = tuple(dict.fromkeys(str(Path(font).resolve()) for font in FONTS if Path(font).is_file()))
    if not found or shutil.which("fluidsynth") is None:
        raise DataError(
            "Playing music needs the program fluidsynth and a General MIDI sound font: on Debian and Ubuntu, "
            "apt-get install fluidsynth fluid-soundfont-gm."
        )
    return found


def played(score: Score, font: str | None = None) -> Samples:
    """A score's sound, float32 [N] at 16 kHz, with what rings on after the last note.

    Raises:
        DataError: FluidSynth failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        midi, wav = Path(folder) / "score.mid", Path(folder) / "score.wav"
        to_midi(score, midi)
        # Twice the rate, then resampled: FluidSynth's own low rates alias. It reads only the samples that it plays.
        options = f"-ni -q -o synth.dynamic-sample-loading=1 -r {2 * RATE} -g 0.5 -O s16 -T wav".split()
        command = ["fluidsynth", *options, "-F", str(wav), font or sound_fonts()[0], str(midi)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode or not wav.is_file():
            raise DataError(f"FluidSynth failed: {done.stderr.strip() or done.returncode}.")
        return io.load(wav).resample(RATE).samples.numpy()


def piece(split: str, generator: Generator, seconds: float = 10.0, tempo: float | None = None) -> Example:
    """A rendered piece of one of the split's patterns: kind, tempo and instruments are known.

    Args:
        split: whose patterns.
        generator: draws the pattern, the tempo and the rest.
        seconds: how long.
        tempo: beats a minute; None draws one from 50 to 200, evenly in its logarithm.
    """
    pattern = int(generator.choice(patterns(split)))
    if tempo is None:
        tempo = float(np.exp(generator.uniform(np.log(50.0), np.log(200.0))))
    score = compose(pattern, tempo, seconds + 3.0, generator)
    start = int(generator.uniform(0.0, 2.0) * RATE)
    samples = played(score)[start : start + int(seconds * RATE)]
    return _music(samples, score, generator, f"pattern {pattern}", tempo=True)


def instrument_alone(
    instrument: str,
    generator: Generator,
    compose_one: Callable[[str, Generator], Score] = phrase,
    font: str | None = None,
) -> Example:
    """A rendered phrase (or `note`) of one instrument, by a sound font (None: the first): kind and instrument are
    known."""
    samples = played(compose_one(instrument, generator), font)
    samples = samples[: int(generator.uniform(1.0, 6.0) * RATE)]
    return _music(
        samples, Score(0.0, (), {}, (instrument,)), generator, f"{compose_one.__name__} of {instrument}", tempo=False
    )


def _music(samples: Samples, score: Score, generator: Generator, source: str, tempo: bool) -> Example:
    labels = [("kind", "music"), *(("instrument", each) for each in score.instruments)]
    labels += [("tempo", f"{score.tempo:.2f}")] if tempo else []
    samples = scale_peak(samples, float(generator.uniform(-20.0, -1.0)))
    spans = spans_of(samples, labels)
    known = {"kind", "event", "instrument", "speakers"} | ({"tempo"} if tempo else set())
    return Example(samples, (*spans, *silences(spans, len(samples) / RATE)), frozenset(known), source=source)
