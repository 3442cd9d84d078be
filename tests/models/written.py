"""Written sentences: prose, and a thousand with numbers, times, money, abbreviations and markup, made from parts."""

import random

PROSE = """The capital of Italy is Rome, and I have read about it in the books that you gave me last week.
She asked whether the old bridge over the river was still open, but nobody at the hotel could tell her.
Bread is made from flour, water and yeast. It needs an hour in a warm place before it goes into the oven.
I don't think they're coming; we've waited long enough, haven't we?
An honest answer is often the hardest one to give, isn't it?
"We should leave now," he said, "or we will miss the last train home."
What would you like to drink: coffee, tea or a glass of orange juice?
The well-known doctor used to live in a house near the sea, where he used an old boat to fish.
You can record a new record every day, and present a present to a friend.
They read the letter twice, then put it back — nobody wanted to read it aloud.
To whom it may concern: the open window lets in the cold air of the early evening.
He lives to eat, and the cats have nine lives... or so they say!
Is it true that elephants never forget? I am not so sure of that.
Please close the door; it's too close to the fire, and the wind is about to wind around the house.
The United States, the United Kingdom and the European Union signed it in the end.
My brother, who is an engineer at NASA, never uses the word impossible.
In an ideal world (which this is not), the answer would be up to us.
Thanks! That would be great. Let me know if there is anything else I can do for you.
The moon moves around the earth, the earth around the sun, and all of them through empty space.
Children under the age of three don't need a ticket, but they do need a seat of their own.
Every hour an empty bus stops at the edge of the old town, waits and drives on.
Whatever happens, don't touch the wire. Ask an adult to switch off the power at the box first.
Alexander and Charles met Vivian, Lily, Ivy and Max in Central Park on a live evening.
""".splitlines()

_SUBJECTS = (
    "The store", "Dr. Smith", "King Charles III", "Ms. Lee", "The server at 10.0.0.1", "**Everyone**", "NASA",
    "St. Paul's", "A man of 45", "The U.S. Army", "Our *new* office", "It", "J. K. Rowling", "Mr. No",
)  # fmt: skip
_VERBS = ("closes at", "paid", "is about", "wrote on", "needs", "said no. Then came", "has", "uses", "went to", "ran")
_THINGS = (
    "8:00 p.m.", "8 a.m.", "14:30", "7:00 o'clock", "$5 trillion", "$3.50", "€20", "$1.5 million", "-5 °C", "5 km",
    "60 mph", "5-10 kg", "1/2 cup", "1 1/2 miles", "May 3rd, 2024", "2024-05-03", "3/4/2025", "the 1990s", "No. 5",
    "Chapter IV", "Henry VIII", "Part I", "World War II", "555-0123", "(555) 123-4567", "+1 555 123 4567", ".5",
    "1,234,567", "3.14", "version 1.2.3", "jo@example.com", "https://example.com/a_b?q=1", "www.example.com",
    "[the docs](https://x.org/y_(z))", "`code`", "AT&T", "&amp; more", '<b>much</b> <break time="1s"/> more', "C#",
    "3 + 4 = 7", "2 x 3", "10 - 3 = 7", "5 - 10", "50%", "5 %", "the 4th of July", "3 May", "Sept. 11", "vs. them",
    "St. James St.", "12 Oak St. Then", "etc.", "e.g. this", "i.e. that", "COVID-19", "an MP3", "H₂O", "ok 🙂",
    "the read", "to an end", "the only one", "2½", '6\'2"', "a < b", "x<y", "50,5", "the U.S.", "你好", "used to it",
    "Vitamin C",
)  # fmt: skip
_ENDS = (
    ".",
    "!",
    "?",
    "...",
    "",
    " on Friday.",
    ", he said.",
    '."',
    "\n- and more\n- of it\n",
    "\n\n# So",
    " in the US.",
)


def sentences(count: int = 1000, seed: int = 0) -> list[str]:
    """Texts of one to three sentences."""
    draw = random.Random(seed)

    def sentence() -> str:
        thing = " ".join(draw.choice(_THINGS) for _ in range(draw.randint(1, 2)))
        return f"{draw.choice(_SUBJECTS)} {draw.choice(_VERBS)} {thing}{draw.choice(_ENDS)}"

    return [" ".join(sentence() for _ in range(draw.randint(1, 3))) for _ in range(count)]


def cut(text: str, draw: random.Random) -> list[str]:
    """The text in pieces, cut at random places."""
    cuts = sorted(draw.sample(range(len(text) + 1), min(len(text), draw.randint(1, 12))))
    return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)])]
