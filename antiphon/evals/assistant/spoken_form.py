"""Whether written text is read aloud as it is meant: numbers, dates, money, abbreviations, markup, code.

`spoken_form.jsonl` has 200 written sentences. What may be said for each is a regular expression over small letters and
spaces, since there is mostly more than one good way to say it ("half past five", "five thirty p m").
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from antiphon.errors import DataError
from antiphon.evals.assistant.evaluation import AssistantEvaluation
from antiphon.evals.harness import rows_of
from antiphon.evals.report import Figure
from antiphon.evals.rows import spread
from antiphon.models.tts.normalization.normalize import Normalizer
from antiphon.models.tts.phonemes import STRESS, Phonemizer

SENTENCES = Path(__file__).parent / "spoken_form.jsonl"

_CAPITALS = re.compile(r"\b[A-Z]{2,}(?=s?\b)")


@dataclass(frozen=True)
class WrittenSentence:
    """A written sentence and what may be said for it.

    Attributes:
        kind: what is hard about it, as "money".
        written: as it stands on the screen.
        spoken: a regular expression that the said words, as `spoken_words` gives them, match as a whole.
    """

    kind: str
    written: str
    spoken: re.Pattern[str]


def read_sentences(path: Path | str = SENTENCES) -> list[WrittenSentence]:
    """Reads a jsonl of {"kind", "written", "spoken"}.

    Raises:
        DataError: unreadable, a line without these fields, or a pattern that is none.
    """
    sentences: list[WrittenSentence] = []
    try:
        for line in Path(path).read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            sentences.append(WrittenSentence(row["kind"], row["written"], re.compile(row["spoken"])))
    except OSError as error:
        raise DataError(f"cannot read the written sentences: {error}") from error
    except (ValueError, KeyError, TypeError, re.error) as error:
        at = len(sentences) + 1
        raise DataError(f'{path}, line {at} is not {{"kind", "written", "spoken"}}: {error!r}') from error
    return sentences


def spoken_words(said: str, phonemizer: Phonemizer) -> str:
    """What is heard of a spoken form, in small letters with single spaces; letters that are spelled stand apart.

    Whether capitals are spelled ("FBI") or read as a word ("NASA") is up to the voice's lexicon, so that is asked.
    """

    def apart(capitals: re.Match) -> str:
        whole, spelled = (phonemizer(text) for text in (capitals[0], ".".join(capitals[0])))
        return " ".join(capitals[0]) if _sounds(whole) == _sounds(spelled) else capitals[0]

    said = re.sub(r"\b([A-Za-z])\.(?=[A-Za-z]\b)", r"\1 ", said.replace("’", "'"))
    said = _CAPITALS.sub(apart, said).lower()
    return " ".join(re.sub(r"[^\w' ]|_", " ", said).split())


def _sounds(phonemes: str) -> str:
    return "".join(c for c in phonemes if c not in STRESS and c != " ")


def is_read_right(sentence: WrittenSentence, said: str, phonemizer: Phonemizer) -> bool:
    """Whether `said`, the spoken form of a sentence, is one that it may have."""
    return sentence.spoken.fullmatch(spoken_words(said, phonemizer)) is not None


def spoken_form_right(
    evaluation: AssistantEvaluation, n: int, normalize: Callable[[str], str] | None = None
) -> list[Figure]:
    """Written sentences as they are read aloud.

    Args:
        evaluation: keeps the items.
        n: how many sentences.
        normalize: written to spoken; None for the voice's own.
    """
    normalize, phonemizer = normalize or Normalizer(), Phonemizer()
    sentences = spread(read_sentences(), n)
    said = evaluation.each("is read aloud", [sentence.written for sentence in sentences], normalize)
    right = [is_read_right(*pair, phonemizer) for pair in zip(sentences, said, strict=True)]
    columns = {"kind": [sentence.kind for sentence in sentences], "said": said, "right": right}
    columns |= {"written": [s.written for s in sentences], "accepted": [s.spoken.pattern for s in sentences]}
    evaluation.save_items("spoken-form-right", rows_of(columns))
    return [Figure("spoken-form-right", sum(right) / len(right), "share", ">= 0.97", None, len(right))]
