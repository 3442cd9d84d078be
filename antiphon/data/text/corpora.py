"""Read text sources and yield clean sentences, each as one person in a conversation would say it.

The sources are gzipped JSON lines, told apart by their names: `questions`, `requests`, `answers`, `conversations`,
`dialogues` (any may be missing). What a user says ("user") trains the ears; what an assistant says ("assistant") trains
codec and talker.

Every sentence is in one split, "train" or "dev", by the hash of its normalised text alone. So the same words never
stand on both sides, whatever their source or role, and adding a source moves nothing.

    for sentence in shuffled(read_sentences(folder, "assistant"), seed=0): ...
"""

import gzip
import hashlib
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from antiphon.errors import DataError

ROLES = ("user", "assistant")
SPLITS = ("train", "dev")
SOURCES = ("questions", "requests", "answers", "conversations", "dialogues")
DEV_ONE_IN = 50

_PLAIN = str.maketrans(
    {
        "’": "'", "‘": "'", "ʻ": "'", "′": "'", "`": "'", "“": '"', "”": '"', "«": '"', "»": '"', "…": "...",
        "–": "-", "—": " - ", "−": "-", "\u00a0": " ", "\u202f": " ", "\u200b": "", "\u00ad": "", "™": "", "•": " ",
    }
)  # fmt: skip
_UNSPEAKABLE = re.compile(
    r"https?:|www\.|\S\.(?:com|org|net|edu|gov|co)\b|\S@\S|[<>{}\[\]|\\^~=*_#@()]|\d[\d\s().+-]{5,}\d[\d-]*"
    r"|[^\W\d_]\d+[^\W\d_]|\S{26,}"
)
_DROPPED = re.compile(r"[^\w\s.,?!'\":;$£€%&/°+-]")
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')]*\s+(?=[\"'A-Z0-9])")
_NO_END = re.compile(
    r"(?:\b(?:Mr|Mrs|Ms|Dr|St|Jr|Sr|vs|etc|No|Inc|Co|Ltd|Prof|Gen|Col|Sgt|Mt|Ft|Ave|Blvd|Rd|[A-Z])|U\.S)\.$"
)
_CONTRACTIONS = {
    bare.replace("'", ""): bare
    for bare in (
        "i'm i've don't doesn't didn't isn't wasn't weren't wouldn't couldn't shouldn't can't haven't hasn't hadn't "
        "aren't what's that's who's where's there's he's she's it's you're you've they're they've ain't let's o'clock"
    ).split()
    if bare not in ("it's", "let's")  # "its" and "lets" are words
}
_ASKS = re.compile(
    r"(?:(?:so|and|but|hey|ok|okay|um|well|please|hi|hello|also|then|now),? )*"
    r"(?:who|whom|whose|what|when|where|why|which|how|is|are|am|was|were|do|does|did|can|could|will|would|should|shall|may|might|have|has|had|isn't|aren't|don't|doesn't|didn't|"
    r"won't|can't|couldn't|wouldn't|what's|who's|where's|how's|when's|in what|in which|on what|at what|for how|to what|"
    r"by what|any)\b"
)
# How a plain assistant puts an answer of a few words; the last, the bare answer itself, teaches very short utterances.
_STATEMENTS = (
    "The answer is {}.", "It's {}.", "That would be {}.", "I believe it's {}.", "The correct answer is {}.",
    "That's {}.", "It is {}.", "{}.",
)  # fmt: skip
_STANDS_ALONE = ("he", "she", "it", "they", "to", "by", "yes", "no", "because", "true", "false")


@dataclass(frozen=True)
class Sentence:
    """One thing to say.

    Attributes:
        id: 16 hex digits of the hash of the normalised text: the same words have the same id.
        text: Cleaned, cased, with its final punctuation.
        role: "user" or "assistant".
        source: The file that it came from, without suffixes.
        split: "train" or "dev".
    """

    id: str
    text: str
    role: str
    source: str
    split: str


def normalise(text: str) -> str:
    """Lower case, letters and digits only, single spaces: what decides whether two texts are the same."""
    text = unicodedata.normalize("NFC", text.translate(_PLAIN)).lower().replace("'", "")
    return " ".join(re.findall(r"\w+", text))


def text_id(text: str) -> str:
    """16 hex digits naming the normalised text."""
    return hashlib.sha256(normalise(text).encode()).hexdigest()[:16]


def split_of(identity: str) -> str:
    """The split of a text by its id: one in `DEV_ONE_IN` is "dev"."""
    return "dev" if int(identity, 16) % DEV_ONE_IN == 0 else "train"


def unscramble(text: str) -> str:
    """Undo UTF-8 that was read as Windows-1252 ("Ã©" for "é"), which the sources hold some of."""
    if "Ã" in text or "Å" in text or "Â" in text:
        try:
            return text.encode("cp1252").decode("utf-8")
        except UnicodeError:
            return text
    return text


def clean(text: str) -> str | None:
    """A text as one line fit to be read aloud, or None where it holds what cannot be (links, markup, codes, brackets,
    telephone numbers, letters of other scripts)."""
    text = unicodedata.normalize("NFC", unscramble(unscramble(text)).translate(_PLAIN))
    text = " ".join(text.split())
    if _UNSPEAKABLE.search(text):
        return None
    text = _DROPPED.sub(" ", text)
    if any(char.isalpha() and ord(char) > 0x24F for char in text):
        return None
    text = re.sub(r"\s+([.,?!;:])", r"\1", " ".join(text.split()))
    text = re.sub(r"(?<=[a-z]{2})([.!?])(?=[A-Z][a-z ])", r"\1 ", text)
    text = re.sub(r"\.+(?=\?)", "", re.sub(r"([?!])[?!.]+", r"\1", re.sub(r"\.{2,}", ".", text))).strip(" -,;:/&+")
    if text.count('"') % 2 or text.count("'") == 2:
        text = re.sub(r'^["\'](?=[^"]*$)|(?<=[^s])["\']$', "", text)
    return text if re.search(r"\w", text) else None


def capitalise(text: str) -> str:
    """First letter upper case, "i" alone upper case."""
    text = re.sub(r"\bi(?=$|[\s,.?!]|'(?:m|d|ll|ve)\b)", "I", text)
    return re.sub(r"[^\W\d_]", lambda match: match.group().upper(), text, count=1) if text[:1].islower() else text


def finish(text: str, asks: bool | None = None) -> str:
    """Add the final mark where it is missing: "?" if it asks (by its first words, where `asks` is None), else "."."""
    if text[-1:] in ".?!":
        return text
    if text[-2:] in ('."', '?"', '!"'):
        return text
    if asks is None:
        asks = bool(_ASKS.match(text.lower()))
    return text + ("?" if asks else ".")


def restore_apostrophes(text: str) -> str:
    """ "dont" -> "don't", "Whats" -> "What's": only words that are nothing else without their apostrophe."""

    def replace(match: re.Match[str]) -> str:
        word = match.group()
        restored = _CONTRACTIONS.get(word.lower())
        if restored is None or word.isupper():
            return word
        return word[0] + restored[1:] if restored[0] != "i" else "I" + restored[1:]

    return re.sub(r"[A-Za-z]+", replace, text)


def split_sentences(text: str) -> list[str]:
    """Split where a sentence ends; not after titles and initials."""
    sentences, start = [], 0
    for match in _SENTENCE_END.finditer(text):
        if not _NO_END.search(text[start : match.start()]):
            sentences.append(text[start : match.start()] + text[match.start() : match.end()].strip())
            start = match.end()
    return [sentence for sentence in [*sentences, text[start:]] if sentence.strip()]


def truecase_table(cased: Iterable[str]) -> dict[str, str]:
    """Words that stand in upper case, learnt from cased texts: lower-case form -> usual form ("chicago" -> "Chicago").

    First words of texts and words in mostly upper-case texts (titles) tell nothing and are left out.
    """
    forms: dict[str, Counter[str]] = {}
    for text in cased:
        words = re.findall(r"[^\W\d_]+(?:'[a-z]+)?", text)
        if sum(word[0].isupper() for word in words) > 0.5 * len(words):
            continue
        for word in words[1:]:
            forms.setdefault(word.lower(), Counter())[word] += 1
    table = {}
    for lower, counts in forms.items():
        form, count = counts.most_common(1)[0]
        total = sum(counts.values())
        if form != lower and total >= 3 and count >= 0.85 * total:
            table[lower] = form
    return table


def truecase(text: str, table: dict[str, str]) -> str:
    """Give lower-case words their usual form by `table`; the first letter and "i" go up in any case."""

    def replace(match: re.Match[str]) -> str:
        word = match.group()
        stem, apostrophe, rest = word.partition("'")
        return table.get(word) or table.get(stem, stem) + apostrophe + rest

    return capitalise(re.sub(r"[^\W\d_]+(?:'[^\W\d_]+)?", replace, text))


def _rows(folder: Path, source: str) -> Iterator[dict]:
    path = folder / f"{source}.jsonl.gz"
    if not path.exists():
        return
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(f"{path}, line {number} is not JSON ({error}): fetch the file again.") from None


def _statement(question: str, answer: str) -> str | None:
    """An answer of a few words as an assistant would say it; the manner follows from the question's hash."""
    answer = answer.strip().rstrip(".")
    words = answer.split()
    if not words or len(words) > 8 or not answer[0].isalnum():
        return None
    if re.search(r"\b(?:these|above|below)\b|/", answer.lower()):
        return None
    if len(words) > 4 or words[0].lower() in _STANDS_ALONE:
        return capitalise(answer) + "."
    return capitalise(_STATEMENTS[int(text_id(question), 16) // DEV_ONE_IN % len(_STATEMENTS)].format(answer))


def _user_texts(folder: Path, source: str) -> Iterator[str]:
    if source == "requests":
        cased = [row["text"] for other in ("questions", "answers") for row in _rows(folder, other)]
        cased += [turn["text"] for row in _rows(folder, "dialogues") for turn in row["turns"]]
        table = truecase_table(cased)
        for row in _rows(folder, source):
            yield finish(truecase(restore_apostrophes(row["text"]), table))
    elif source == "questions":
        for row in _rows(folder, source):
            yield finish(restore_apostrophes(row["text"]))
    elif source == "answers":
        for row in _rows(folder, source):
            yield finish(row["text"])
    elif source == "conversations":
        for row in _rows(folder, source):
            for turn in row["turns"]:
                for paraphrase in turn["user"]:
                    yield finish(paraphrase.strip().replace(".?", "?"))
    elif source == "dialogues":
        for row in _rows(folder, source):
            for turn in row["turns"]:
                if turn["speaker"] == "user":
                    yield finish(turn["text"])


def _assistant_texts(folder: Path, source: str) -> Iterator[str]:
    if source == "questions":
        for row in _rows(folder, source):
            statement = _statement(row["text"], restore_apostrophes(row["answer"]))
            if statement:
                yield statement
    elif source == "answers":
        for row in _rows(folder, source):
            if not re.search(r"\banswers?\.?$", row["reply"]):  # a template whose answer was never filled in
                for line in row["reply"].splitlines():
                    if line.strip().endswith((".", "!", "?")):
                        yield from split_sentences(line.strip())
    elif source == "conversations":
        for row in _rows(folder, source):
            for turn in row["turns"]:
                for paraphrase in turn["assistant"]:
                    yield finish(paraphrase.strip(), asks=False)
    elif source == "dialogues":
        for row in _rows(folder, source):
            for turn in row["turns"]:
                if turn["speaker"] != "user":
                    # Half of the turns whole, so that ends of sentences are heard inside utterances too.
                    whole = int(text_id(turn["text"]), 16) // DEV_ONE_IN % 2
                    yield from [turn["text"]] if whole else split_sentences(turn["text"])


def read_sentences(
    folder: str | Path,
    role: str,
    split: str = "train",
    sources: Iterable[str] = SOURCES,
    words: tuple[int, int] = (1, 32),
    max_chars: int = 180,
) -> Iterator[Sentence]:
    """Yield the clean sentences of a role, each once, in the order of the sources.

    Args:
        folder: Holds the sources, `<name>.jsonl.gz`.
        role: "user" or "assistant".
        split: "train" or "dev".
        sources: Which to read; those that are not in the folder are passed over.
        words: Fewest and most words.
        max_chars: Most characters; 180 take about 12 seconds to say.

    Raises:
        DataError: An unknown role, split or source, a folder with none of the sources, or a broken file.
    """
    folder, sources = Path(folder), tuple(sources)
    if role not in ROLES or split not in SPLITS or set(sources) - set(SOURCES):
        raise DataError(
            f"Role {role!r}, split {split!r}, sources {sources}: the roles are {ROLES}, the splits {SPLITS}, the "
            f"sources {SOURCES}."
        )
    if not any((folder / f"{source}.jsonl.gz").exists() for source in sources):
        raise DataError(f"{folder} has none of {', '.join(sources)} (.jsonl.gz): give the folder that does.")
    texts = _user_texts if role == "user" else _assistant_texts
    seen: set[str] = set()
    for source in sources:
        for raw in texts(folder, source):
            text = clean(raw)
            if text is None or not words[0] <= len(text.split()) <= words[1] or len(text) > max_chars:
                continue
            text = capitalise(finish(text))
            identity = text_id(text)
            if identity not in seen and split_of(identity) == split:
                seen.add(identity)
                yield Sentence(identity, text, role, source, split)


def shuffled(sentences: Iterable[Sentence], seed: int = 0) -> list[Sentence]:
    """A reproducible order in which sentences with rare words tend to come early.

    Templates ("There are 2 flights ...") are most of any dialogue corpus; drawn evenly, they would crowd out the names
    and words of the long tail. So this is a weighted draw without replacement (Efraimidis and Spirakis 2006), a
    sentence's weight the mean of its words' counts to the power -1/4.
    """
    sentences = list(sentences)
    split_words = [normalise(sentence.text).split() for sentence in sentences]
    counts = Counter(word for words in split_words for word in words)

    def key(sentence: Sentence, words: list[str]) -> float:
        weight = sum(counts[word] ** -0.25 for word in words) / max(1, len(words))
        digest = hashlib.sha256(f"{seed} {sentence.id}".encode()).digest()
        uniform = (int.from_bytes(digest[:8], "big") + 1) / 2**64
        return uniform ** (1.0 / max(weight, 1e-6))

    keys = {sentence.id: key(sentence, words) for sentence, words in zip(sentences, split_words)}
    return sorted(sentences, key=lambda sentence: (-keys[sentence.id], sentence.id))
