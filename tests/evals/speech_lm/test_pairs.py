"""Pairs: ours and the official layouts; what is likelier is found; non-words could be words."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from antiphon.data.formats.formats import Weights, speech, speech_to_text
from antiphon.data.formats.item import Item
from antiphon.errors import DataError
from antiphon.evals.cache import key_of, pack_codes
from antiphon.evals.speech_lm.figures import perplexity, quick
from antiphon.evals.speech_lm.likelihood import (
    Units,
    across_sides,
    log_likelihoods,
    right_share,
    speech_sides,
    text_sides,
)
from antiphon.evals.speech_lm.material import ending_pairs, grammar_pairs, sentence_pairs, word_pairs
from antiphon.evals.speech_lm.nonwords import NonWords, symbols
from antiphon.evals.speech_lm.pairs import Pair, Said, read_pairs, write_pairs
from tests.models.speech_lm.tiny import speech_lm

SENTENCES = [
    "This is what the people do when they have time.",
    "Are there any trains that go from the old town to the sea today?",
    "Maria reads seven books about music every year without any help.",
    "Without a doubt the weather was nice on the last day of the trip.",
    "Nobody knows how many birds live in the trees behind our school.",
]


def sounds(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(name.encode())


def test_ours_are_written_and_read(tmp_path):
    sounds(tmp_path, "a.wav", "b.wav", "p.wav")
    pairs = [Pair("0", "endings", Said("x", "a.wav"), Said("y", "b.wav"), Said("z", "p.wav")), Pair("1", "words", Said("x"), Said("y"))]  # fmt: skip # noqa: E501
    write_pairs(tmp_path, pairs)
    found = read_pairs(tmp_path)
    assert found[0].prompt == Said("z", str(tmp_path / "p.wav")) and found[1] == pairs[1]
    write_pairs(tmp_path, [Pair("1", "words", Said("x"), Said("x"))])
    with pytest.raises(DataError, match="sides of pair '1' are equal"):
        read_pairs(tmp_path)
    write_pairs(tmp_path, [Pair("1", "words", Said("x", "no.wav"), Said("x"))])
    with pytest.raises(DataError, match=r"no\.wav, of pair '1', is not there"):
        read_pairs(tmp_path)
    (tmp_path / "pairs.jsonl").write_text('{"id": 1}\n')
    with pytest.raises(DataError, match="line 1, is no pair"):
        read_pairs(tmp_path)


def test_official_layouts(tmp_path):
    wuggy, blimp, story, salmon = (tmp_path / name for name in ("wuggy", "blimp", "story", "salmon"))
    sounds(wuggy, "x1.wav", "x2.wav")
    (wuggy / "gold.csv").write_text(
        "id,filename,voice,frequency,word,phones,length_phones,correct\n"
        "7,x1,A,10,brick,b r i k,4,1\n7,x2,A,10,blick,b l i k,4,0\n8,x1,A,1,lone,l,1,1\n"
    )
    (pair,) = read_pairs(wuggy)
    assert (pair.kind, pair.right.text, pair.wrong.text) == ("swuggy", "brick", "blick")
    sounds(blimp, "g.wav", "b.wav")
    (blimp / "gold.csv").write_text(
        "id,filename,voice,type,subtype,transcription,correct\n1,b.wav,A,t,s,dogs barks,0\n1,g.wav,A,t,s,dogs bark,1\n"
    )
    (pair,) = read_pairs(blimp)
    assert (pair.kind, pair.right.sound) == ("sblimp", str(blimp / "g.wav"))
    sounds(story / "in", "3_correct.wav", "3_incorrect.wav", "3_mutual.wav")
    (story / "in" / "3_correct.txt").write_text("They won.\n")
    (pair,) = read_pairs(story)
    assert pair.right == Said("They won.", str(story / "in" / "3_correct.wav"))
    assert pair.prompt.sound.endswith("3_mutual.wav")
    sounds(salmon / "gender_consistency", "sample_0_0.wav", "sample_0_1.wav", "sample_1_0.wav")
    (pair,) = read_pairs(salmon)
    assert pair.kind == "salmon-gender-consistency" and pair.right.sound.endswith("sample_0_0.wav")
    with pytest.raises(DataError, match="holds no pairs that are known"):
        read_pairs(tmp_path / "nowhere")


def test_non_words_are_none_and_every_three_neighbours_occur():
    assert symbols("fˈAməs") == ["f", "ˈA", "m", "ə", "s"]
    lexicon = {
        "kitten": "kˈɪtən", "mitten": "mˈɪtən", "bitten": "bˈɪtən", "bottom": "bˈɑtəm", "button": "bˈʌtən",
        "cotton": "kˈɑtən", "rotten": "ɹˈɑtən", "atom": "ˈætəm", "madam": "mˈædəm", "sudden": "sˈʌdən",
    }  # fmt: skip
    maker = NonWords(lexicon.values())
    made = word_pairs(10, random.Random(0), lexicon)
    assert len(made) >= 5
    for word, right, wrong in made:
        assert lexicon[word] == right and wrong not in maker.known
        assert len(symbols(wrong)) == len(symbols(right))
        assert maker.usual(symbols(wrong)) > float("-inf")
        assert sum(a != b for a, b in zip(symbols(wrong), symbols(right))) >= 1
    assert made == word_pairs(10, random.Random(0), lexicon)
    assert NonWords(["ab"]).make("ab", random.Random(0)) is None  # nothing to make it of


def test_grammar_pairs_are_of_both_kinds():
    pairs = grammar_pairs(SENTENCES, 5, random.Random(1))
    assert len(pairs) >= 4
    for number, pair in enumerate(pairs):
        right, wrong = pair.right.text.split(), pair.wrong.text.split()
        changed = [i for i, (a, b) in enumerate(zip(right, wrong)) if a != b]
        assert len(right) == len(wrong)
        if number % 2 == 0:
            assert len(changed) == 1 and right[changed[0]][0].isupper() == wrong[changed[0]][0].isupper()
        else:
            assert len(changed) == 2 and sorted(right) == sorted(wrong) and changed[1] == changed[0] + 1


def test_endings_are_of_like_length_and_not_their_own():
    pairs = ending_pairs(SENTENCES, 10, random.Random(0))
    assert pairs
    for pair in pairs:
        assert f"{pair.prompt.text} {pair.right.text}" in SENTENCES
        assert pair.wrong.text != pair.right.text and any(s.endswith(pair.wrong.text) for s in SENTENCES)
        assert abs(len(pair.wrong.text.split()) - len(pair.right.text.split())) <= 1
    assert [each.right.text for each in sentence_pairs(SENTENCES, 2, random.Random(0))] == SENTENCES[:2]


def test_likelihoods_are_those_of_each_example_alone_and_the_likelier_side_is_right():
    model, rng = speech_lm(), np.random.default_rng(0)
    examples = [speech(Item(rng.integers(0, 20, n)), model) for n in (4, 30, 11)]
    examples.append(speech_to_text(Item(np.arange(5), "the cat"), model, Weights(given=0.0, tags=0.0)))
    together = log_likelihoods(model, examples)
    for example, found in zip(examples, together):
        with torch.no_grad():
            losses = model.losses(torch.from_numpy(example.tokens)[None], torch.from_numpy(example.weights)[None])
        assert abs(found + float(losses.sum() / example.weights[1:].sum())) < 1e-5
    better, worse = sorted(range(3), key=lambda i: -together[i])[:2]
    assert right_share(model, [examples[better]], [examples[worse]]) == 1.0
    assert right_share(model, [examples[worse]], [examples[better]]) == 0.0
    assert right_share(model, [examples[0]], [examples[0]]) == 0.5
    assert perplexity(model, ["the cat sat"]).value > 1


def spoken(folder, model, pairs):
    """The pairs as files whose units lie in the cache already: sound `a` has the units of its letters."""
    written = []
    for pair in pairs:
        sides = []
        for name, side in (("right", pair.right), ("wrong", pair.wrong), ("prompt", pair.prompt)):
            sound = f"{pair.id}-{name}.wav"
            sounds(folder, sound)
            sides.append(Said(side.text, sound) if side else None)
        written.append(Pair(pair.id, pair.kind, *sides))
    write_pairs(folder, written)
    units = Units(model, folder)
    for pair in read_pairs(folder):
        for side in (pair.right, pair.wrong, pair.prompt):
            if side:
                sound = folder / side.sound.rsplit("/", 1)[1]
                codes = np.array([[ord(sign) % 20 for sign in side.text]])
                key = key_of(sound.name, str(sound.stat().st_size))
                units.cache.get([key], lambda rows, codes=codes: [pack_codes(codes)])
    return units


def test_only_the_side_behind_the_prompt_counts(tmp_path):
    model = speech_lm()
    pairs = [Pair("0", "endings", Said("the mat"), Said("a dog"), Said("cat sat"))]
    units = spoken(tmp_path / "endings", model, pairs)
    pairs = read_pairs(tmp_path / "endings")
    for right, wrong in (
        speech_sides(model, units, pairs),
        across_sides(model, units, pairs),
        text_sides(model, pairs),
    ):
        for example, side in zip((right[0], wrong[0]), (pairs[0].right, pairs[0].wrong)):
            counted = example.tokens[example.weights > 0].tolist()
            if any(model.vocabulary.is_unit(token) for token in counted):
                codes = [ord(sign) % 20 for sign in side.text]
                assert counted == [*model.vocabulary.units(np.array(codes)), model.vocabulary.tag("E")]
            else:
                assert counted == model.text_ids(f" {side.text}")
    spoken(tmp_path / "words", model, [Pair("0", "words", Said("cat"), Said("tac"))])
    found = quick((model, tmp_path))
    assert set(found) == {"words-right", "endings-right"} and set(found.values()) <= {0.0, 0.5, 1.0}
