"""What the assistant is told."""

from datetime import datetime

from antiphon.models.llm.prompts import assistant_prompt


def test_the_time_stands_last() -> None:
    night, noon = (assistant_prompt(datetime(2024, 2, 29, hour, 5)) for hour in (0, 12))
    assert night.endswith("It is Thursday, February 29, 2024, 12:05 a.m.") and noon.endswith("12:05 p.m.")
    assert night.removesuffix("a.m.") == noon.removesuffix("p.m.")
