"""What can be heard besides the words: groups of labels, each with the English words that name it to a language model.

One vocabulary for the data, the network, the evaluations and what the thinker reads. A network knows those labels of it
that it was trained on, and its folder says which (`network.NetworkConfig.labels`). A label's name never changes; where
a published set has the same class (ESC-50, VocalSound, General MIDI's families), it is that set's name in lower case.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from antiphon.errors import ModelError

MIN_TEMPO, MAX_TEMPO = 40.0, 240.0  # beats a minute that the group "tempo" goes over


@dataclass(frozen=True)
class Label:
    """One thing that can be heard.

    Attributes:
        name: within its group; lower case, words joined by underscores.
        words: what a language model reads for it, as short as it can be ("dog", "sea waves", "angry").
        phrase: what a person reads for it where that says more ("a dog barks"); "" for `words`.
    """

    name: str
    words: str
    phrase: str = ""


@dataclass(frozen=True)
class Group:
    """Labels that answer the same question.

    Attributes:
        name: of the group.
        labels: in the order of a network's outputs.
        exclusive: whether just one of them is true at a time (a softmax); else each is true or not (sigmoids).
        timed: whether they have times within a recording, to 80 ms; else they are said of the whole of it.
    """

    name: str
    labels: tuple[Label, ...]
    exclusive: bool = True
    timed: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The labels' names."""
        return tuple(label.name for label in self.labels)


def _group(name: str, *labels: str | tuple[str, ...], exclusive: bool = True, timed: bool = False) -> Group:
    """A group from (name, words, phrase) of each label, or its name alone where that is what one says."""
    told = [(each, each) if isinstance(each, str) else each for each in labels]
    return Group(name, tuple(Label(*each) for each in told), exclusive, timed)


_ALL = (
    _group("kind", "speech", "music", "sound", "silence", exclusive=False, timed=True),
    _group("sex", ("female", "woman"), ("male", "man")),
    _group("age", "child", "adult", ("old", "old", "an old voice")),
    _group("feeling", *"neutral happy sad angry afraid disgusted bored surprised".split()),
    _group(
        "manner",
        ("fast", "fast", "speaks fast"),
        ("slow", "slow", "speaks slowly"),
        ("loud", "loud", "speaks loudly"),
        ("soft", "soft", "speaks softly"),
        ("whispered", "whispering", "whispers"),
        ("shouted", "shouting", "shouts"),
        ("hesitating", "hesitating", "hesitates"),
        ("question", "asking", "asks"),
        ("laughing", "laughing", "laughs"),
        ("crying", "crying", "cries"),
        ("sighing", "sighing", "sighs"),
        exclusive=False,
    ),
    _group(
        "speakers",
        ("one", "one speaker"),
        ("in_turn", "two speakers", "two or more speakers in turn"),
        ("at_once", "two speakers at once", "two or more speakers at once"),
        exclusive=False,
    ),
    _group("surroundings", "quiet", "noise", ("room", "echo"), "telephone", exclusive=False),
    _group(
        "event",
        # Animals
        ("dog", "dog", "a dog barks"),
        ("rooster", "rooster", "a rooster crows"),
        ("hen", "hen", "a hen clucks"),
        ("cat", "cat", "a cat meows"),
        ("cow", "cow", "a cow moos"),
        ("pig", "pig", "a pig grunts"),
        ("sheep", "sheep", "a sheep bleats"),
        ("goat", "goat", "a goat bleats"),
        ("horse", "horse", "a horse neighs"),
        ("duck", "duck", "a duck quacks"),
        ("goose", "goose", "a goose honks"),
        ("crow", "crow", "a crow caws"),
        ("owl", "owl", "an owl hoots"),
        ("chirping_birds", "birds", "birds sing"),
        ("frog", "frog", "a frog croaks"),
        ("insects", "insects", "insects buzz"),
        ("crickets", "crickets", "crickets chirp"),
        ("elephant", "elephant", "an elephant trumpets"),
        ("lion", "lion", "a lion roars"),
        ("wolf", "wolf", "a wolf howls"),
        ("monkey", "monkey", "a monkey calls"),
        # Weather, water and fire
        ("rain", "rain", "it rains"),
        ("thunderstorm", "thunder", "it thunders"),
        ("wind", "wind", "the wind blows"),
        ("sea_waves", "sea waves"),
        ("water_drops", "water drops"),
        ("pouring_water", "pouring water", "water is poured"),
        ("stream", "running water"),
        ("toilet_flush", "toilet flush", "a toilet is flushed"),
        ("crackling_fire", "fire", "a fire crackles"),
        # People
        ("crying_baby", "crying baby", "a baby cries"),
        ("laughing", "laughter", "someone laughs"),
        ("crying", "crying", "someone cries"),
        ("screaming", "scream", "someone screams"),
        ("sighing", "sigh", "someone sighs"),
        ("moaning", "moan", "someone moans"),
        ("coughing", "cough", "someone coughs"),
        ("sneezing", "sneeze", "someone sneezes"),
        ("sniffing", "sniff", "someone sniffs"),
        ("throat_clearing", "throat clearing", "someone clears the throat"),
        ("breathing", "breathing", "someone breathes"),
        ("snoring", "snoring", "someone snores"),
        ("whistling", "whistling", "someone whistles"),
        ("clapping", "clapping", "people clap"),
        ("cheering", "cheering", "people cheer"),
        ("footsteps", "footsteps"),
        ("drinking", "drinking", "someone drinks"),
        ("brushing_teeth", "brushing teeth", "someone brushes teeth"),
        # In the house
        ("clock_tick", "clock", "a clock ticks"),
        ("clock_alarm", "alarm clock", "an alarm clock rings"),
        ("telephone_ring", "telephone ring", "a telephone rings"),
        ("beep", "beep", "something beeps"),
        ("door_knock", "knock", "someone knocks"),
        ("door_creak", "creaking door", "a door creaks"),
        ("door_close", "door", "a door closes"),
        ("doorbell", "doorbell", "a doorbell rings"),
        ("glass_breaking", "breaking glass", "glass breaks"),
        ("keyboard_typing", "typing", "someone types"),
        ("mouse_click", "click", "something clicks"),
        ("can_opening", "can", "a can is opened"),
        ("vacuum_cleaner", "vacuum cleaner", "a vacuum cleaner runs"),
        ("washing_machine", "washing machine", "a washing machine runs"),
        ("coins", "coins", "coins clink"),
        # Tools, engines and the street
        ("hammer", "hammer", "someone hammers"),
        ("hand_saw", "saw", "someone saws"),
        ("chainsaw", "chainsaw", "a chainsaw runs"),
        ("drill", "drill", "a drill runs"),
        ("engine", "engine", "an engine runs"),
        ("car", "car", "a car drives"),
        ("car_horn", "car horn", "a car horn sounds"),
        ("motorcycle", "motorcycle", "a motorcycle drives"),
        ("train", "train", "a train passes"),
        ("ship_horn", "ship horn", "a ship's horn sounds"),
        ("airplane", "airplane", "an airplane flies"),
        ("helicopter", "helicopter", "a helicopter flies"),
        ("siren", "siren", "a siren wails"),
        ("bicycle_bell", "bicycle bell", "a bicycle bell rings"),
        ("church_bells", "bells", "bells ring"),
        ("whistle", "whistle", "a whistle is blown"),
        ("explosion", "explosion", "something explodes"),
        ("gunshot", "gunshot", "a shot is fired"),
        ("fireworks", "fireworks"),
        exclusive=False,
        timed=True,
    ),
    _group(
        "instrument",
        *"piano guitar bass drums violin cello flute clarinet saxophone oboe trumpet trombone tuba organ".split(),
        *"accordion harp harpsichord marimba bell strings".split(),
        ("voice", "singing"),
        "synthesizer",
        exclusive=False,
    ),
    _group(
        "genre",
        *"classical jazz blues rock metal pop folk country electronic".split(),
        ("hip_hop", "hip-hop"),
        *"reggae latin ambient".split(),
    ),
)
GROUPS: dict[str, Group] = {group.name: group for group in _ALL}
TEMPO = "tempo"  # a label of it is a number of beats a minute, as text ("120")


def group(name: str) -> Group:
    """A group by its name.

    Raises:
        ModelError: there is none of that name.
    """
    if name not in GROUPS:
        raise ModelError(f"there is no group of labels {name!r}; there are {', '.join([*GROUPS, TEMPO])}")
    return GROUPS[name]


def label(group_name: str, name: str) -> Label:
    """A label by its group's and its own name; a tempo is made from its number.

    Raises:
        ModelError: there is none of that name.
    """
    if group_name == TEMPO:
        return Label(name, f"{round(float(name))} beats per minute")
    for each in group(group_name).labels:
        if each.name == name:
            return each
    raise ModelError(f"group {group_name} has no label {name!r}; it has {', '.join(group(group_name).names)}")


def checked(labels: dict[str, Iterable[str]]) -> dict[str, tuple[str, ...]]:
    """Groups' labels in the order of the vocabulary, each once.

    Raises:
        ModelError: a group or a label that isn't there.
    """
    out = {}
    for name in labels:
        for each in (wanted := set(labels[name])):
            label(name, each)
        out[name] = tuple(each for each in group(name).names if each in wanted)
    return {name: out[name] for name in GROUPS if name in out}
