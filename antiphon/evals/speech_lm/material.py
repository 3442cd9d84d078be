"""Our own spoken pairs, by the teacher's voice: words, grammar and endings; and sentences to be written down.

- words: a word, and one that there is not but could be (`nonwords`), said from their phonemes.
- grammar: a sentence, and the same with a verb or "this" in the wrong number, or with two neighbours exchanged.
- endings: the first half of a sentence, its second half, and that of another sentence of like length; each is said on
  its own, so that no seam gives the right one away.
- sentences: by voices of which some are in no training set.

Sentences are of the "dev" split, which no training set has. What is made follows from the seed alone.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from antiphon.audio.io import Audio
from antiphon.data.speech.speak import Speaker
from antiphon.data.text.corpora import ROLES, read_sentences
from antiphon.errors import DataError
from antiphon.evals.speech_lm.nonwords import NonWords
from antiphon.evals.speech_lm.pairs import INDEX, Pair, Said, write_pairs

KINDS = ("words", "grammar", "endings", "sentences")
VOICE = "hibari"
SENTENCE_VOICES = ("hibari", "joe")  # the second is in no training set of the recipes
LEXICON = 12000  # words, the most frequent first, that a non-word must not be
TESTED = 6000  # of these, words that are tested
PLAIN = {"speed": 1.0, "pitch": 1.0, "formant": 1.0}

# A form that agrees with another number: English closes these classes.
NUMBER = {
    "is": "are", "are": "is", "was": "were", "were": "was", "has": "have", "have": "has", "does": "do", "do": "does",
    "this": "these", "these": "this", "that's": "that're", "isn't": "aren't", "don't": "doesn't",
}  # fmt: skip

Say = Callable[[str], Audio]


def material(folder: Path, kind: str, n: int, texts: Path | None, seed: int = 0) -> Path:
    """The folder of a kind's pairs, made where it is missing.

    Args:
        folder: above those of the kinds.
        kind: of `KINDS`.
        n: how many, where they are made.
        texts: folder of the text sources; not needed for words.
        seed: of what is drawn.

    Raises:
        DataError: no pairs there, and no texts to make them from.
    """
    place = folder / kind
    if (place / INDEX).is_file():
        return place
    if kind != "words" and texts is None:
        raise DataError(f"{place} has no pairs, and there are no texts to make them from: give --texts FOLDER")
    place.mkdir(parents=True, exist_ok=True)
    rng = random.Random(f"{seed}/{kind}")
    if kind == "words":
        write_pairs(place, _spoken_words(place, n, rng))
        return place
    sentences = dev_sentences(texts) if texts else []
    rng.shuffle(sentences)
    make = {"grammar": grammar_pairs, "endings": ending_pairs, "sentences": sentence_pairs}[kind]
    voices = SENTENCE_VOICES if kind == "sentences" else (VOICE,)
    write_pairs(place, _spoken(place, make(sentences, n, rng), voices))
    return place


def dev_sentences(texts: Path) -> list[str]:
    """Sentences of all roles that are kept out of training, in order."""
    found = {each.text for role in ROLES for each in read_sentences(texts, role, "dev", words=(5, 20))}
    return sorted(text for text in found if not any(sign.isdigit() for sign in text))


def grammar_pairs(sentences: Iterable[str], n: int, rng: random.Random) -> list[Pair]:
    """Sentences and what is wrong of them: by turns a form of the wrong number, and two neighbours exchanged."""
    pairs: list[Pair] = []
    for text in sentences:
        if len(pairs) == n:
            break
        wrong = _wrong_number(text, rng) if len(pairs) % 2 == 0 else _wrong_order(text, rng)
        if wrong is not None:
            pairs.append(Pair(f"{len(pairs):04d}", "grammar", Said(text), Said(wrong)))
    return pairs


def _wrong_number(text: str, rng: random.Random) -> str | None:
    words = text.split()
    places = [place for place, word in enumerate(words) if word.lower() in NUMBER]
    if not places:
        return None
    place = rng.choice(places)
    other = NUMBER[words[place].lower()]
    words[place] = other.capitalize() if words[place][0].isupper() else other
    return " ".join(words)


def _wrong_order(text: str, rng: random.Random) -> str | None:
    words = text.split()
    inner = [i for i in range(1, len(words) - 2) if words[i].isalpha() and words[i + 1].isalpha()]
    inner = [i for i in inner if words[i].lower() != words[i + 1].lower()]
    if not inner:
        return None
    place = rng.choice(inner)
    words[place], words[place + 1] = words[place + 1], words[place]
    return " ".join(words)


def ending_pairs(sentences: Sequence[str], n: int, rng: random.Random) -> list[Pair]:
    """Halves of sentences of ten words and more; the wrong half is another's of like length."""
    halves = [(words[: len(words) // 2], words[len(words) // 2 :]) for words in map(str.split, sentences)]
    halves = [(first, second) for first, second in halves if len(first) >= 5]
    pairs: list[Pair] = []
    for place, (first, second) in enumerate(halves):
        if len(pairs) == n:
            break
        others = [each for at, (_, each) in enumerate(halves) if at != place and abs(len(each) - len(second)) <= 1]
        others = [each for each in others if each != second]
        if others:
            right, wrong = Said(" ".join(second)), Said(" ".join(rng.choice(others)))
            pairs.append(Pair(f"{len(pairs):04d}", "endings", right, wrong, Said(" ".join(first))))
    return pairs


def sentence_pairs(sentences: Sequence[str], n: int, rng: random.Random) -> list[Pair]:
    """Sentences alone; the wrong side has no sound."""
    return [Pair(f"{at:04d}", "sentences", Said(text), Said()) for at, text in enumerate(sentences[:n])]


def word_pairs(n: int, rng: random.Random, lexicon: dict[str, str]) -> list[tuple[str, str, str]]:
    """(word, its phonemes, a non-word's phonemes).

    Args:
        n: how many.
        rng: draws.
        lexicon: word -> phonemes, the most frequent first.
    """
    maker, found = NonWords(lexicon.values()), []
    words = [word for word in list(lexicon)[:TESTED] if len(word) >= 4]
    rng.shuffle(words)
    for word in words:
        if len(found) == n:
            break
        if other := maker.make(lexicon[word], rng):
            found.append((word, lexicon[word], other))
    return found


def _lexicon() -> dict[str, str]:
    try:
        from wordfreq import top_n_list
    except ImportError as error:
        raise DataError("words to test need the package wordfreq: pip install 'antiphon[eval]'") from error
    from antiphon.models.tts.phonemes import Phonemizer

    phonemizer = Phonemizer()
    words = [word for word in top_n_list("en", LEXICON) if word.isascii() and word.isalpha()]
    spelt = {word: phonemizer.english(word) for word in tqdm(words, desc="  phonemes", leave=False)}
    return {word: phonemes for word, phonemes in spelt.items() if phonemes and " " not in phonemes}


def _spoken_words(folder: Path, n: int, rng: random.Random) -> list[Pair]:
    from antiphon.data.speech.voices.base import HibariVoice

    voice, pairs = HibariVoice(), []
    for number, (word, right, wrong) in enumerate(tqdm(word_pairs(n, rng, _lexicon()), desc="  words", leave=False)):
        sides = []
        for name, phonemes in (("right", right), ("wrong", wrong)):
            spoken = voice.speak_phonemes(phonemes, number)
            path = folder / f"{number:04d}-{name}.wav"
            Audio(torch.from_numpy(spoken.samples), spoken.sample_rate).save(path)
            sides.append(path.name)
        pairs.append(Pair(f"{number:04d}", "words", Said(word, sides[0]), Said(f"/{wrong}/", sides[1])))
    return pairs


def _spoken(folder: Path, pairs: Sequence[Pair], voices: Sequence[str]) -> list[Pair]:
    """The pairs with sounds, each by one of the voices in turn."""
    speakers, found = [Speaker(name) for name in voices], []
    for number, pair in enumerate(tqdm(pairs, desc=f"  {folder.name}", leave=False)):
        speaker = speakers[number % len(speakers)]

        def said(side: Said, name: str, number: int = number, speaker: Speaker = speaker) -> Said:
            if not side.text:
                return side
            spoken = speaker.speak(side.text, number, PLAIN)
            path = folder / f"{number:04d}-{name}.wav"
            Audio(torch.from_numpy(spoken.samples), spoken.sample_rate).save(path)
            return Said(side.text, path.name)

        prompt = said(pair.prompt, "prompt") if pair.prompt else None
        found.append(Pair(pair.id, pair.kind, said(pair.right, "right"), said(pair.wrong, "wrong"), prompt))
    return found
