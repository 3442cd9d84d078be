"""Written text becomes the words that are said: nothing lost, nothing read as another, however the text came."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.models.tts.normalization.normalize import Normalizer, can_be_said
from tests.models.written import PROSE, cut, sentences

READ = {
    # Roman numerals, and words that begin like one
    "King Charles lives there.": "King Charles lives there.",
    "King Lear wept.": "King Lear wept.",
    "Queen Latifah, Pope Clement, George Costanza": "Queen Latifah, Pope Clement, George Costanza",
    "Act Lively. Part I'd like.": "Act Lively. Part I'd like.",
    "the part I played": "the part I played",
    "Part I like best is the end.": "Part I like best is the end.",
    "Part I of the book": "Part one of the book",
    "Henry VIII": "Henry the eighth",
    "Elizabeth II's crown": "Elizabeth the second's crown",
    "Chapter IV": "Chapter four",
    "World War II": "World War two",
    "the XXI century": "the twenty first century",
    "Section C": "Section C",
    "Malcolm X": "Malcolm X",
    "Henry V. Then Robert V. Smith.": "Henry the fifth. Then Robert V. Smith.",
    "IV fluids": "IV fluids",
    # digits one by one
    "Call 555-0123.": "Call five five five, oh one two three.",
    "(555) 123-4567": "five five five, one two three, four five six seven",
    "1-800-555-0199": "one, eight oh oh, five five five, oh one nine nine",
    "+44 20 7946 0958": "plus forty four two oh seven nine four six oh nine five eight",
    "Dial 911!": "Dial nine one one!",
    "007": "zero zero seven",
    "192.168.0.1": "one nine two dot one six eight dot zero dot one",
    # numbers
    ".5": "point five",
    "0.50": "zero point five zero",
    "-5": "minus five",
    "1,234,567": "one million two hundred thirty four thousand five hundred sixty seven",
    "1,2,3": "one, two, three",
    "Version 1.2.3 is out.": "Version one point two point three is out.",
    "22nd": "twenty second",
    "1,000s, 20s": "thousands, twenties",
    "Boeing 747-400, 3-2": "Boeing seven hundred forty seven dash four hundred, three to two",
    "y = 2x + 1": "y equals two x plus one",
    "3/4": "three quarters",
    "1 1/2": "one and a half",
    "2½": "two and a half",
    "5-10": "five to ten",
    "No. 5 is alive.": "Number five is alive.",
    "I said no. I did.": "I said no. I did.",
    "3 + 4 = 7": "three plus four equals seven",
    "2 x 3": "two times three",
    "10 - 3 = 7": "ten minus three equals seven",
    "E=mc²": "E equals mc squared",
    # times, dates, years
    "at 8:00 p.m. on Friday": "at eight P.M on Friday",
    "at 8:00 p.m. The end": "at eight P.M. The end",
    "It is 7:00 o'clock.": "It is seven o'clock.",
    "14:30, 8:05": "fourteen thirty, eight oh five",
    "8am-5pm": "eight A.M to five P.M",
    "2024-05-03": "May third, twenty twenty four",
    "3/4/2025": "March fourth, twenty twenty five",
    "3 May 1905": "the third of May nineteen oh five",
    "the 1990s, the '90s": "the nineteen nineties, the nineties",
    "2005": "two thousand five",
    # money and units
    "$5 trillion": "five trillion dollars",
    "$3.50, $1, $0.99": "three dollars and fifty cents, one dollar, ninety nine cents",
    "-$5, €20, $10k": "minus five dollars, twenty euros, ten thousand dollars",
    "5 km, 1 kg, 20°C, 60 mph": "five kilometers, one kilogram, twenty degrees Celsius, sixty miles per hour",
    "5 ft. 2 in. tall": "five feet two inches tall",
    "50%, 5-10%": "fifty percent, five to ten percent",
    "750 million km, 30 s, a km": "seven hundred fifty million kilometers, thirty seconds, a kilometer",
    # addresses
    "Mail jo@example.com now.": "Mail jo at example dot com now.",
    "www.example.com": "W.W.W dot example dot com",
    "https://x.org/b-c": "H.T.T.P.S colon slash slash x dot org slash b dash c",
    "/usr/bin": "slash usr slash bin",
    # abbreviations and signs
    "Dr. Smith of St. Paul": "Doctor Smith of Saint Paul",
    "Main St. is closed.": "Main Street is closed.",
    "e.g. this, i.e. that": "for example this, that is that",
    "NASA vs. FBI": "NASA versus FBI",
    "in the U.S.A. today": "in the U.S.A. today",
    "Jan. 5": "January fifth",
    "on Sat, Oct 12": "on Saturday, October twelfth",
    "Mon-Fri, the Sun, he Sat": "Monday to Friday, the Sun, he Sat",
    "in May. 4 left": "in May. four left",
    "Acme Inc., of Oak St., vs., etc.": "Acme Incorporated, of Oak Street, versus, etc.",
    "AT&T, C#, C++, #5": "AT and T, C sharp, C plus plus, number five",
    "COVID-19 and B2B": "COVID nineteen and B two B",
    "A4": "eigh four",
    # markup
    'Hello <break time="1s"/> there.': "Hello there.",
    "<speak>Hello there.</speak>": "Hello there.",
    "# Shopping list\n- milk\n- **eggs**": "Shopping list. milk. eggs.",
    "| a | b |\n|---|---|\n| c | d |": "a , b . c , d .",
    "&amp; more": "and more",
    "un**believ**able, _so_ `quick`": "unbelievable, so quick",
    "see [the docs](https://x.org/y_(z)).": "see the docs.",
    "See:\n```python\nx = 1\n```\nDone.": "See: The code is on the screen. Done.",
    "~~~\n```\n~~~": "The code is on the screen.",
    "```x = 1``` is set": "x equals one is set",
    "- [x] milk\n- [ ] eggs": "milk. eggs.",
    "1 < 2, a<b": "one is less than two, eigh is less than b",
    "ok 🙂 fine": "ok fine",
    "你好 means hello.": "means hello.",
}


@pytest.fixture(scope="module")
def normalizer() -> Normalizer:
    return Normalizer()


@pytest.mark.parametrize("text", READ)
def test_written_is_read(normalizer, text):
    assert normalizer(text) == READ[text]


def read(normalizer: Normalizer, pieces: list[str]) -> list[tuple[str, bool]]:
    state, words = normalizer.init_state(), []
    for piece in pieces:
        words += normalizer.step(piece, state)
    return [(word.text, word.last) for word in words + normalizer.step("", state, last=True)]


def test_pieces_are_read_as_the_whole(normalizer):
    draw = random.Random(1)
    for text in [*sentences(), *READ]:
        assert read(normalizer, cut(text, draw)) == read(normalizer, [text]), text


@settings(max_examples=200, deadline=None)
@given(st.text("0123456789 .,:;!?-–/\\'\"()[]<>*_`~#@&%$€+=^|°²½\nabIVXpm你😀\ud800", max_size=40), st.randoms())
def test_whatever_the_letters_no_digit_is_left_and_pieces_are_read_as_the_whole(text, draw):
    normalizer = Normalizer()
    whole = read(normalizer, [text])
    assert not any(c.isdigit() for word, _ in whole for c in word)
    assert read(normalizer, cut(text, draw) if text else []) == whole


def test_every_digit_of_a_number_is_said(normalizer):
    digits = dict(zip("0123456789", "zero one two three four five six seven eight nine".split()))
    for number in ("0.1234567890", "12345678901234567890", "10.98.76.54", "0098765432101234"):
        said = normalizer(number).split()
        assert [word for word in said if word in digits.values()][-4:] == [digits[c] for c in number if c.isdigit()][
            -4:
        ]


def test_words_know_their_place(normalizer):
    text = "It cost **$5 trillion** in [May](http://x.y)."
    words = [word for word in normalizer.step(text, normalizer.init_state(), last=True) if word.text]
    assert [(word.text, text[word.start : word.end]) for word in words] == [
        ("It", "It"),
        ("cost", "cost"),
        ("five trillion dollars", "$5 trillion**"),
        ("in", "in"),
        ("May.", "May](http://x.y)."),
    ]


@pytest.mark.parametrize(
    "text", ["<a " * 3000, "[" * 9000, "](" * 4000, "*" * 9000, "\\" * 9000, "9" * 9000, " " * 9000]
)
def test_text_that_is_all_marks_is_cut_where_it_is_long(normalizer, text):
    state = normalizer.init_state()
    for at in range(0, len(text), 50):
        normalizer.step(text[at : at + 50], state)
        assert len(state.text) < 1200


def test_what_english_cannot_say(normalizer):
    assert not any(can_be_said(text) for text in ("你好", "😀", "...", "  ", "", "Привет", "**", "<b></b>"))
    assert all(can_be_said(text) for text in ("a", "5", "你好 means hello.", "π", "&", *PROSE))
    words = normalizer.step("你好 means Привет, ok", normalizer.init_state(), last=True)
    assert [word.unsaid for word in words if word.unsaid] == ["你好", "Привет"]
