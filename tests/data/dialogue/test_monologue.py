"""The text stream: by hand, against a frame-by-frame version, and back again."""

import numpy as np
import pytest

from antiphon.data.dialogue.format import Word
from antiphon.data.dialogue.monologue import first_frame, inner_monologue, monologue_words
from antiphon.models.moshi.text_tokenizer import TextTokenizer

RATE = 12.5
PAD, EPAD = 3, 0


class Trigrams:
    """Cuts a word into threes of letters, numbered from 10 on as they come."""

    def __init__(self):
        self.known: list[str] = []

    def encode_word(self, word: str, first: bool = False) -> list[int]:
        text = word if first else " " + word
        parts = [text[i : i + 3] for i in range(0, len(text), 3)]
        self.known += [part for part in parts if part not in self.known]
        return [10 + self.known.index(part) for part in parts]

    def starts_word(self, piece: int) -> bool:
        return piece >= 10 and self.known[piece - 10].startswith(" ")

    def decode(self, ids: list[int]) -> str:
        return "".join(self.known[i - 10] for i in ids if i >= 10)


def row_of(words: list[tuple[str, float, float]], frames: int, **options) -> list[int]:
    return inner_monologue([Word(*word) for word in words], frames, RATE, Trigrams(), **options).tolist()


def test_by_hand():
    # " he", "llo" are 10, 11; " yo", "u" are 12, 13. 0.16 s is frame 2, 0.48 s frame 6.
    words = [("hello", 0.16, 0.3), ("you", 0.48, 0.6)]
    assert row_of(words, 9) == [PAD, EPAD, 10, 11, PAD, EPAD, 12, 13, PAD]
    assert row_of(words[::-1], 9) == row_of(words, 9)  # any order
    assert row_of(words, 7) == [PAD, EPAD, 10, 11, PAD, EPAD, 12]  # cut where the clip ends
    assert row_of(words, 6) == [PAD, EPAD, 10, 11, PAD, PAD]  # nothing to announce
    assert row_of(words, 4, pad=1, end_pad=2) == [1, 2, 10, 11]
    assert row_of([], 3) == [PAD] * 3
    assert row_of([("hello", 0.0, 0.1)], 3) == [10, 11, PAD]  # no frame before it


def test_words_close_together():
    # "hello" has frames 2 and 3; "you" would start in 3 and waits until 4, with no room for EPAD; then "we" in 6.
    words = [("hello", 0.16, 0.2), ("you", 0.25, 0.3), ("we", 0.3, 0.4)]
    assert row_of(words, 9) == [PAD, EPAD, 10, 11, 12, 13, 14, PAD, PAD]
    # exactly one frame between them: it is EPAD
    assert row_of([("we", 0.16, 0.2), ("me", 0.32, 0.4)], 6) == [PAD, EPAD, 10, EPAD, 11, PAD]


def test_words_without_a_duration_are_left_out():
    assert row_of([("hello", 0.16, 0.16), ("you", 0.24, 0.3)], 6) == [PAD, PAD, EPAD, 10, 11, PAD]


def test_shifted_text():
    words = [("hello", 0.16, 0.3)]
    assert row_of(words, 6, shift=0.16) == [PAD, PAD, PAD, EPAD, 10, 11]
    assert row_of(words, 6, shift=-0.08) == [EPAD, 10, 11, PAD, PAD, PAD]
    assert row_of(words, 6, shift=-0.6) == [10, 11, PAD, PAD, PAD, PAD]


def test_a_moment_at_the_border_of_frames():
    assert [first_frame(frame / RATE, RATE) for frame in range(2000)] == list(range(2000))
    assert first_frame(0.0799, RATE) == 0 and first_frame(0.08, RATE) == 1


def slowly(words: list[Word], frames: int, pieces: Trigrams) -> list[int]:
    """Frame by frame: what has started queues, one piece leaves the queue; then EPAD before whatever follows PAD."""
    words = sorted(words, key=lambda word: word.start)
    row, queue, begun = [], [], 0
    for frame in range(frames):
        while begun < len(words) and words[begun].start * RATE < frame + 1:
            queue += pieces.encode_word(words[begun].text)
            begun += 1
        row.append(queue.pop(0) if queue else PAD)
    return [EPAD if now == PAD and after >= 10 else now for now, after in zip(row, [*row[1:], PAD])]


def random_words(rng: np.random.Generator, count: int, seconds: float) -> list[Word]:
    starts = np.sort(rng.uniform(0, seconds, count))
    texts = ["".join(rng.choice(list("abcde"), rng.integers(1, 9))) for _ in starts]
    return [Word(text, float(start), float(start + 0.1)) for text, start in zip(texts, starts)]


@pytest.mark.parametrize("seed", range(30))
def test_equals_the_slow_version(seed):
    rng = np.random.default_rng(seed)
    words, pieces = random_words(rng, int(rng.integers(0, 25)), 6.0), Trigrams()
    assert inner_monologue(words, 75, RATE, pieces).tolist() == slowly(words, 75, pieces)


def byte_pairs() -> TextTokenizer:
    return TextTokenizer.train(["abc abd cab dab eeb", "baca deb, cad"] * 5, 280)


def sentence_pieces(folder) -> TextTokenizer:
    spm = pytest.importorskip("sentencepiece")
    texts = ["abc abd cab dab eeb", "baca deb cad aee abcde"] * 20
    options = {"model_prefix": str(folder / "tokenizer"), "vocab_size": 20, "pad_id": 3, "minloglevel": 2}
    spm.SentencePieceTrainer.train(sentence_iterator=iter(texts), **options)
    return TextTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("kind", ["trigrams", "byte pairs", "sentence pieces"])
def test_and_back(kind, tmp_path):
    pieces = {"trigrams": Trigrams, "byte pairs": byte_pairs, "sentence pieces": lambda: sentence_pieces(tmp_path)}
    pieces = pieces[kind]()
    for seed in range(20):
        check_back(pieces, seed)


def check_back(pieces, seed: int) -> None:
    rng = np.random.default_rng(seed)
    words = random_words(rng, 15, 6.0)
    row = inner_monologue(words, 200, RATE, pieces)
    back = monologue_words(row, RATE, pieces, speaker="user")
    assert [word.text for word in back] == [word.text for word in words]
    assert {word.speaker for word in back} == {"user"}
    for word, found in zip(words, back):
        assert round(found.start * RATE) >= first_frame(word.start, RATE)  # later only where it had to wait
        count = len(pieces.encode_word(word.text))
        assert found.end - found.start == pytest.approx(count / RATE)
        at = round(found.start * RATE)
        assert row[at : at + count].tolist() == pieces.encode_word(word.text)


def test_back_by_hand():
    pieces = Trigrams()
    row = inner_monologue([Word("hello", 0.16, 0.3), Word("you", 0.25, 0.4)], 8, RATE, pieces)
    assert monologue_words(row, RATE, pieces) == [Word("hello", 0.16, 0.32), Word("you", 0.32, 0.48)]
    # a window that starts inside a word has the rest of it; past the clip there is nothing
    assert monologue_words([11, 12, 13, PAD, -1, -1], RATE, pieces) == [Word("llo", 0.0, 0.08), Word("you", 0.08, 0.24)]
    assert monologue_words([1, PAD, 2], RATE, pieces) == []  # other special ones are no words
