"""Real recordings whose manifests say what is heard in them, with our labels in place of each set's own.

    for recording in recordings("audio/emodb/manifest.jsonl"):
        each = from_manifest(recording, "emodb")
        each.labels, each.split           # (("kind", "speech"), ("feeling", "sad"), ("sex", "female")), "train"
        example = example_of(each)        # its sound at 16 kHz, and when the labels are true

`antiphon.data.scene.published.labelled` reads a folder of these, or a set that comes in a layout of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from antiphon.data.recordings import Recording
from antiphon.data.scene.example import RATE, Example, Span, activity, silences
from antiphon.data.scene.splits import hashed, split_of, trains
from antiphon.data.speech.augment import Samples
from antiphon.models.scene.labels import GROUPS, TEMPO

LONGEST = 10.0  # seconds of an example of a longer recording
GAPS = {"speech": 0.5, "music": 2.0, "sound": 0.4}  # seconds of a pause within what still is one stretch of its kind
LONG_GAP = 1.2  # of sounds that are made of strokes, drops or ticks: nobody counts those
# What goes on all the time, now softer, now louder: its quietest moments are its own, no pause and no floor of noise.
_STEADY = frozenset(
    "rain sea_waves crackling_fire wind stream helicopter airplane chainsaw engine car motorcycle train vacuum_cleaner "
    "washing_machine drill insects crickets".split()
)
_STROKES = frozenset(
    "crackling_fire clock_tick keyboard_typing footsteps water_drops mouse_click brushing_teeth hammer hand_saw "
    "crickets clapping rain".split()
)

# Others' names for what we name otherwise. Their names that are ours, but for spaces and capitals, need no line here.
_SAME = {
    "event": {
        "baby_cry": "crying_baby", "baby_crying": "crying_baby", "baby_cry,_infant_cry": "crying_baby",
        "clock_ticking": "clock_tick", "tick-tock": "clock_tick", "dog_bark": "dog", "bark": "dog",
        "fire_crackling": "crackling_fire", "crackle": "crackling_fire", "person_sneeze": "sneezing",
        "sneeze": "sneezing", "ocean_waves": "sea_waves", "waves,_surf": "sea_waves", "ocean": "sea_waves",
        "running_water": "stream", "wind_gust": "wind", "meow": "cat", "blackcat": "cat", "cow_white": "cow",
        "moo": "cow", "oink": "pig", "pig_golden2": "pig", "sheep_lamb": "sheep", "ram": "sheep", "baa": "sheep",
        "bleat": "goat", "mountaingoat": "goat", "neigh,_whinny": "horse", "quack": "duck", "drake": "duck",
        "gander": "goose", "honk": "goose", "caw": "crow", "hoot": "owl", "lark": "chirping_birds",
        "blackbird": "chirping_birds", "bird": "chirping_birds",
        "bird_vocalization,_bird_call,_bird_song": "chirping_birds", "croak": "frog", "bee": "insects",
        "hornet": "insects", "mosquito": "insects", "bee,_wasp,_etc.": "insects", "grasshopper": "crickets",
        "cricket": "crickets", "tiger": "lion", "roaring_cats_(lions,_tigers)": "lion", "chimp": "monkey",
        "gorilla": "monkey", "crowing,_cock-a-doodle-doo": "rooster", "cluck": "hen", "chicken,_rooster": "hen",
        "thunder": "thunderstorm", "lightningbolt": "thunderstorm", "raindrop": "rain", "fire": "crackling_fire",
        "laughter": "laughing", "crying,_sobbing": "crying", "sigh": "sighing", "cough": "coughing",
        "sniff": "sniffing", "throatclearing": "throat_clearing", "scream": "screaming", "snore": "snoring",
        "hands": "clapping", "applause": "clapping", "walk,_footsteps": "footsteps", "knock": "door_knock",
        "door_wood_knock": "door_knock", "door_wood_creaks": "door_creak", "door_slam": "door_close",
        "slam": "door_close", "toilet": "toilet_flush", "water_drop": "water_drops", "drip": "water_drops",
        "firetruck": "siren", "fire_engine,_fire_truck_(siren)": "siren", "saw": "hand_saw", "sawing": "hand_saw",
        "mallet_metal": "hammer", "washing-machine": "washing_machine", "drinking_sipping": "drinking",
        "alarm_clock": "clock_alarm", "telephone_bell_ringing": "telephone_ring", "ringtone": "telephone_ring",
        "telephone_ringing": "telephone_ring", "typing": "keyboard_typing", "computer_keyboard": "keyboard_typing",
        "shatter": "glass_breaking", "breaking": "glass_breaking", "gunshot,_gunfire": "gunshot",
        "vehicle_horn,_car_horn,_honking": "car_horn", "church_bell": "church_bells", "crowd_cheer": "cheering",
        "wolf_howl": "wolf", "howl": "wolf", "fixed-wing_aircraft,_airplane": "airplane", "coin_(dropping)": "coins",
    },
    "feeling": {
        "anger": "angry", "joy": "happy", "happiness": "happy", "sadness": "sad", "fear": "afraid",
        "fearful": "afraid", "disgust": "disgusted", "boredom": "bored", "surprise": "surprised", "calm": "neutral",
        "surprise_(positive)": "surprised", "surprise_(negative)": "surprised", "elation": "happy",
        "amusement": "happy",
    },
    "sex": {
        "f": "female", "m": "male", "woman": "female", "man": "male",
    },
    "instrument": {
        "electric_guitar": "guitar", "acoustic_guitar": "guitar", "bass_guitar": "bass", "electric_bass": "bass",
        "double_bass": "bass", "synth_bass": "bass", "bass_drum": "drums", "snare_drum": "drums",
        "snare_roll": "drums", "tom": "drums", "hi-hat": "drums", "cymbal": "drums", "splash_cymbal": "drums",
        "drumkit": "drums", "drum_kit": "drums", "cymbal_crash": "drums", "electronic_percussion": "drums",
        "drum": "drums", "choir": "voice", "female_singing_voice": "voice", "soprano_singing_voice": "voice",
        "carnatic_male_singing_voice": "voice", "singing": "voice", "vibraphone": "marimba",
        "synth_effect": "synthesizer", "violin,_fiddle": "violin", "orchestra": "strings",
        "string_section": "strings", "keyboard_(musical)": "piano",
    },
    "genre": {
        "hip_hop_music": "hip_hop", "hiphop": "hip_hop", "electronic_music": "electronic", "techno": "electronic",
    },
}  # fmt: skip
# A burst of the voice that was asked for by a feeling, where it nearly always comes out as this sound.
_BURSTS = {"amusement": "laughing", "relief": "sighing", "sadness": "crying"}
# Of loops and textures only the tempo is known.
_MIXED = frozenset({"loop", "percussion", "ambient texture", "glitch", "vinyl noise"})


@dataclass(frozen=True)
class Labelled:
    """A recording and what is heard in it.

    Attributes:
        recording: where its sound is.
        labels: (group, label) of all that is true of it as a whole.
        known: groups whose labels are complete, as `Example.known`.
        split: "train", "dev" or "test".
        place: name of its set.
        original: who speaks, or what it was cut from.
        licence: as its set states it.
        turns: (start, end, speaker) in seconds, where it is known who speaks when.
    """

    recording: Recording
    labels: tuple[tuple[str, str], ...]
    known: frozenset[str]
    split: str
    place: str = ""
    original: str = ""
    licence: str = ""
    turns: tuple[tuple[float, float, str], ...] = ()

    def label(self, group: str) -> str:
        """Its first label of a group; "" without."""
        return next((label for name, label in self.labels if name == group), "")

    @property
    def trains(self) -> bool:
        """Whether weights that are given away may learn from it."""
        return self.split != "test" and trains(self.licence)


def named(group: str, name: str) -> str:
    """Our name for what another set calls `name`; "" where we have none.

    >>> named("event", "Dog bark"), named("feeling", "fear"), named("event", "elevator")
    ('dog', 'afraid', '')
    """
    key = re.sub(r"\s+", "_", str(name).strip().lower())
    key = _SAME.get(group, {}).get(key, key)
    return key if key in GROUPS[group].names else ""


def from_manifest(recording: Recording, place: str = "") -> Labelled:
    """What a manifest's row says, in our words; see the columns in docs/hearing-data.md."""
    about = recording.about
    told = [str(each) for each in about.get("events") or ()]
    events = [each for each in (named("event", name) for name in told) if each]
    sung = [name for name in told if "singing" in name]
    talked = [name for name in told if name.endswith(("speech", "whispering"))]
    labels: list[tuple[str, str]] = []
    known = {"kind", "event"} if len(events) + len(sung) + len(talked) == len(told) else {"kind"}
    original = recording.voice or str(about.get("freesound_id") or about.get("title") or recording.id)
    sound = told and not sung and not talked and told != ["music"]
    played = told and all(named("instrument", name) for name in told)
    music = sung or played or told == ["music"] or any(about.get(name) for name in ("instrument", "tempo", "genre"))

    if music:
        labels, more = _music({"instrument": told[0], **about} if played else about, sung)
        known |= more
    elif sound:
        labels = [("kind", "sound"), *(("event", each) for each in events)]
        known |= {"instrument", "speakers"} if events else set()
        if told == ["vocal burst"]:
            labels, known = _burst(str(about.get("emotion", "")))
    else:
        labels, more = _speech(about, talked)
        known |= more | {"event"}
    turns = tuple((float(start), float(end), str(who)) for start, end, who in about.get("turns") or ())
    if turns:
        known |= {"speakers"}
    fold = about.get("fold")
    split = split_of(original, place, None if fold is None else int(fold))
    licence = str(about.get("licence", ""))
    return Labelled(recording, tuple(labels), frozenset(known), split, place, original, licence, turns)


def _speech(about: Mapping[str, Any], talked: list[str]) -> tuple[list[tuple[str, str]], set[str]]:
    """Labels of a voice that speaks, and what more is known."""
    labels, known = [("kind", "speech")], {"instrument"}
    sex = named("sex", str(about.get("gender") or about.get("sex") or "")) or next(
        (each for each in ("female", "male") if any(name.split()[0] == each for name in talked)), ""
    )
    feeling, age = named("feeling", str(about.get("emotion", ""))), str(about.get("age_group", ""))
    labels += [("sex", sex)] * bool(sex) + [("feeling", feeling)] * bool(feeling) + [("age", age)] * bool(age)
    known |= {group for group, label in labels if group in ("sex", "feeling", "age")}
    if "whispering" in talked:
        labels.append(("manner", "whispered"))
        known |= {"manner/whispered"}
    elif feeling == "neutral":
        known |= {f"manner/{each}" for each in ("whispered", "shouted", "laughing", "crying", "sighing")}
    if not about.get("turns"):
        labels.append(("speakers", "one"))
        known |= {"speakers"}
    return labels, known


def _burst(feeling: str) -> tuple[list[tuple[str, str]], set[str]]:
    """Labels of a burst of the voice that was asked for by a feeling: laughs, sighs and sobs are sounds with a name;
    of those of other feelings it is only known that they are no laughs where the feeling rules it out."""
    labels, known = [("kind", "sound")], {"kind", "instrument"}
    if sound := _BURSTS.get(feeling):
        labels += [("event", sound), ("manner", sound)]
        known |= {"event"} | {f"manner/{each}" for each in ("laughing", "crying", "sighing", "whispered")}
    elif feeling in ("anger", "fear", "disgust", "pain"):
        known |= {"event/laughing", "manner/laughing"}
    if ours := named("feeling", feeling):
        labels.append(("feeling", ours))
        known |= {"feeling"}
    return labels, known


def _music(about: Mapping[str, Any], sung: list[str]) -> tuple[list[tuple[str, str]], set[str]]:
    """Labels of music, and what more is known."""
    labels, known = [("kind", "music")], {"event", "speakers"}
    told = str(about.get("instrument") or ("singing" if sung else ""))
    if told and told not in _MIXED and (instrument := named("instrument", told)):
        labels.append(("instrument", instrument))
        known |= {"instrument"}
    if genre := named("genre", str(about.get("genre", ""))):
        labels.append(("genre", genre))
        known |= {"genre"}
    if about.get("tempo"):
        labels.append((TEMPO, f"{float(about['tempo']):g}"))
        known |= {TEMPO}
    return labels, known


def load(each: Labelled, longest: float | None = LONGEST) -> tuple[Samples, float]:
    """The sound of a recording at 16 kHz, or a part of one that is longer than `longest` seconds.

    Which part follows from the recording's name, so that it is always the same.

    Returns:
        float32 [N]; the second at which it begins.
    """
    samples = each.recording.load().resample(RATE).samples.numpy()
    if longest is None or len(samples) <= longest * RATE:
        return samples, 0.0
    first = int(hashed(each.recording.id) * (len(samples) - longest * RATE))
    return samples[first : first + int(longest * RATE)], first / RATE


def example_of(each: Labelled, longest: float | None = LONGEST) -> Example:
    """A recording as an example: what its labels say is true while something is heard in it."""
    samples, first = load(each, longest)
    seconds = len(samples) / RATE
    spans = spans_of_turns(each.turns, seconds, first) if each.turns else spans_of(samples, each.labels)
    return Example(
        samples,
        (*spans, *silences(spans, seconds)),
        each.known,
        each.recording.text,
        f"{each.place}/{each.recording.id}",
    )


def spans_of(samples: Samples, labels: Sequence[tuple[str, str]]) -> tuple[Span, ...]:
    """Labels of a whole recording over the time in which something is heard in it.

    Timed groups (kind, event) go over each stretch; what is said of the whole goes from the first to the last. Speech
    has its short pauses in it, a bark ends when it ends, a clock ticks on between its ticks, and waves come and go
    without an end.
    """
    heard = activity(samples, gap=pause(labels), steady=any(label in _STEADY for _, label in labels))
    if not heard:
        return ()
    whole = [(heard[0][0], heard[-1][1])]
    return tuple(
        Span(group, label, start, end)
        for group, label in labels
        for start, end in (heard if group in GROUPS and GROUPS[group].timed else whole)
    )


def pause(labels: Iterable[tuple[str, str]]) -> float:
    """Seconds for which what these labels name may be silent in between, and still be one."""
    labels = list(labels)
    if any(label in _STROKES or label in _STEADY for _, label in labels):
        return LONG_GAP
    return max((GAPS[label] for group, label in labels if group == "kind" and label in GAPS), default=GAPS["sound"])


def spans_of_turns(turns: Iterable[tuple[float, float, str]], seconds: float, first: float = 0.0) -> tuple[Span, ...]:
    """Kind and number of speakers from who speaks when.

    Args:
        turns: (start, end, speaker) in seconds of the recording.
        seconds: how long the part is that is taken,
        first: and where it begins.
    """
    cut = [(max(start - first, 0.0), min(end - first, seconds), who) for start, end, who in turns]
    cut = sorted((start, end, who) for start, end, who in cut if end > start)
    spans = [Span("kind", "speech", start, end) for start, end, _ in cut]
    whole = (cut[0][0], max(end for _, end, _ in cut)) if cut else (0.0, 0.0)
    if len({who for *_, who in cut}) == 1:
        spans.append(Span("speakers", "one", *whole))
    elif cut:
        spans.append(Span("speakers", "in_turn", *whole))
    for number, (_, end, who) in enumerate(cut):
        for other, until, name in cut[number + 1 :]:
            if name != who and min(end, until) - other >= 0.3:
                spans.append(Span("speakers", "at_once", other, min(end, until)))
    return tuple(spans)
