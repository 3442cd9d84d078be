"""What is drawn, written and heard in generated pictures, videos and sounds: the words that name it."""

from __future__ import annotations

COLOURS = {
    "red": (220, 30, 30), "green": (30, 150, 50), "blue": (35, 70, 215), "yellow": (240, 220, 30),
    "orange": (245, 135, 20), "purple": (120, 40, 160), "pink": (250, 150, 195), "black": (15, 15, 15),
}  # fmt: skip
SHAPES = ("circle", "square", "triangle", "star", "cross", "heart", "ring", "diamond")
NUMBERS = ("zero", "one", "two", "three", "four", "five")
PLACES = ("top", "bottom", "left", "right", "middle")
MOTIONS = {"left": "west", "right": "east", "up": "up", "down": "down"}  # where to, and the name of such a motion
# A sound's name -> how a reply says it, and the label that recordings have (`antiphon.models.scene.labels`).
SOUNDS = {
    "dog": ("a dog", "dog"), "rooster": ("a rooster", "rooster"), "rain": ("rain", "rain"),
    "sea": ("the sea", "sea_waves"), "fire": ("a fire", "crackling_fire"), "baby": ("a baby", "crying_baby"),
    "sneeze": ("a sneeze", "sneezing"), "clock": ("a clock", "clock_tick"),
    "helicopter": ("a helicopter", "helicopter"), "saw": ("a saw", "chainsaw"), "siren": ("a siren", "siren"),
    "bell": ("a bell", "church_bells"), "knock": ("a knock", "door_knock"),
    "telephone": ("a telephone", "telephone_ring"), "horn": ("a horn", "car_horn"),
}  # fmt: skip
# Words that are written in pictures: those of the sounds, and others.
WORDS = (
    *SOUNDS, "house", "water", "music", "book", "tree", "apple", "fish", "table", "snow", "sun",
)  # fmt: skip
CHARTS = ("bar", "pie", "line", "rising", "falling", "tallest", "shortest")
EVENTS = ("moving", *MOTIONS.values(), "new", "gone")
# All that a vision tower learns to name, and all that an audio tower does.
SEEN = tuple(dict.fromkeys((*COLOURS, *SHAPES, *NUMBERS, *PLACES, *CHARTS, *EVENTS, *WORDS)))
HEARD = (*SOUNDS, "beep", "start")
