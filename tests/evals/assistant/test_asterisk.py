"""Asterisk's prompts: transcripts cleaned to what is said, pairs only where both halves are there."""

import gzip

import pytest

from antiphon.errors import DataError
from antiphon.evals.assistant.asterisk import clean_transcript, read_prompts

LIST = """; Core Asterisk Sounds in English

activated: Activated.
letters/at: at [@] and more words here
dir-intro:  ... Welcome to the directory.  Use the 7 key...
queue-quantity1: Currently, there are more than ...
not-recorded: This one has no recording here.
ascending-2tone: [ascending tones for five seconds long]
"""


@pytest.fixture
def folder(tmp_path):
    transcripts = tmp_path / "usr/share/doc/asterisk-core-sounds-en"
    sounds = tmp_path / "usr/share/asterisk/sounds/en_US_f_Allison"
    transcripts.mkdir(parents=True)
    sounds.mkdir(parents=True)
    with gzip.open(transcripts / "core-sounds-en.txt.gz", "wt") as file:
        file.write(LIST)
    for name in ("activated", "dir-intro", "queue-quantity1", "ascending-2tone"):
        (sounds / f"{name}.wav").touch()
    return tmp_path


def test_prompts_of_enough_words_with_a_recording(folder):
    assert [(path.stem, text) for path, text in read_prompts(folder)] == [
        ("dir-intro", "Welcome to the directory. Use the 7 key"),
        ("queue-quantity1", "Currently, there are more than"),
    ]
    assert len(read_prompts(folder, min_words=1)) == 3
    assert read_prompts(folder / "usr") == read_prompts(folder)


def test_transcripts():
    assert clean_transcript("press * to toggle, # to end [beep]") == "press star to toggle, pound to end"
    assert clean_transcript("...to leave (pause) <beep> now ...") == "to leave now"


def test_missing_packages_are_named(tmp_path):
    with pytest.raises(DataError, match="asterisk-core-sounds-en"):
        read_prompts(tmp_path)
