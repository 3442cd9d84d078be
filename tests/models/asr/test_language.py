"""Languages: whatever they are called, and what is spoken where there is little to tell."""

from __future__ import annotations

import pytest
import torch

from antiphon.errors import ModelError
from antiphon.models.asr.language import language_code, language_name, spoken_language

KNOWN = ("en", "ru", "no", "tl", "jw", "he", "zh", "haw")


@pytest.mark.parametrize(
    ("named", "code"),
    [
        ("ru", "ru"), ("RU-ru", "ru"), ("rus", "ru"), ("Russian", "ru"), ("en_GB", "en"), ("nb-NO", "no"), ("iw", "he"),
        ("fil", "tl"), ("jv", "jw"), ("Javanese", "jw"), ("zh-Hans-CN", "zh"), ("cmn", "zh"), ("haw", "haw"),
    ],
)  # fmt: skip
def test_a_language_may_be_called_anything_that_means_it(named: str, code: str) -> None:
    assert language_code(named, KNOWN) == code


@pytest.mark.parametrize("named", ["de", "xx", "", "Klingon", "ru-", "en US"])
def test_an_unknown_language_is_told_with_those_that_there_are(named: str) -> None:
    with pytest.raises(ModelError, match="en, haw, he"):
        language_code(named, KNOWN)


def test_names() -> None:
    assert [language_name(code) for code in ("en", "jw", "tl", "xx")] == ["english", "javanese", "filipino", "xx"]


def test_the_expected_language_holds_until_another_is_clearly_likelier() -> None:
    codes = ["en", "ru", "uk"]

    def spoken(*likely: float, expected: str = "en", seconds: float = 2.0) -> str:
        return spoken_language(torch.tensor(likely), codes, expected, seconds)

    assert spoken(0.4, 0.5, 0.1) == "en" and spoken(0.01, 0.9, 0.09) == "ru"
    assert spoken(0.5, 0.4, 0.1, expected="ru") == "ru" and spoken(0.5, 0.4, 0.1, expected="xx") == "en"
    assert [spoken(0.2, 0.5, 0.3, seconds=seconds) for seconds in (0.0, 1.0, 6.0)] == ["en", "en", "ru"]
