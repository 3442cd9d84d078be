"""Texts: cleaning by hand-checked cases, splits that never overlap, sentences that come once."""

import gzip
import json

import pytest

from antiphon.data.text import corpora as texts


def write(folder, source, rows):
    with gzip.open(folder / f"{source}.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


@pytest.fixture
def folder(tmp_path):
    things = ["Chicago", "Denver", "Boston", "Paris", "London", "Madrid", "Tokyo", "Oslo", "Dublin", "Zagreb"]
    write(
        tmp_path,
        "questions",
        [
            {"text": f"What is near {a} and {b}?", "answer": f"the {b} bridge", "category": "x"}
            for a in things
            for b in things
        ],
    )
    write(tmp_path, "requests", [{"text": f"whats the weather in {a.lower()}", "intent": "weather"} for a in things])
    write(
        tmp_path,
        "answers",
        [
            {"text": f"Who lives in {a} ?", "reply": f"Many people live in {a}. Dr. Smith is one of them! See {{x}}."}
            for a in things
        ],
    )
    write(
        tmp_path,
        "dialogues",
        [
            {
                "turns": [
                    {"speaker": "user", "text": f"I go to {a} and to {b} today."},
                    {"speaker": "system", "text": f"Shall I book {a}? It is {i} dollars."},
                ]
            }
            for i, a in enumerate(things)
            for b in things
        ],
    )
    return tmp_path


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("  Who   wrote “Emma” ? ", 'Who wrote "Emma"?'),
        ("It’s a café\u00ad\u200b…", "It's a café."),
        ("cafÃ© is open", "café is open"),
        ("e\u0301tude", "étude"),
        ("No.Now I don't want.Thank you.", "No.Now I don't want. Thank you."),
        ("Two bodies.?", "Two bodies?"),
        ("Really?!?", "Really?"),
        ("See https://x.org for more", None),
        ("Go to example.com now", None),
        ("The <b>end</b>", None),
        ("Call 408-247-8880 now", None),
        ("It is 犬 in Japanese", None),
        ("A blank: ____", None),
        ("...", None),
        ("", None),
    ],
)
def test_clean(raw, cleaned):
    assert texts.clean(raw) == cleaned


@pytest.mark.parametrize(
    ("raw", "finished"),
    [
        ("what time is it", "what time is it?"),
        ("so is it far", "so is it far?"),
        ("hey, can you hear me", "hey, can you hear me?"),
        ("set an alarm", "set an alarm."),
        ("whatever you like", "whatever you like."),
        ("Stop!", "Stop!"),
        ("He said 'no' to Dr. Who?", "He said 'no' to Dr. Who?"),
    ],
)
def test_final_mark(raw, finished):
    assert texts.finish(raw) == finished


def test_capitals_and_apostrophes():
    assert texts.capitalise("i think i'm late") == "I think I'm late"
    assert texts.capitalise("24 hours") == "24 hours"
    assert texts.capitalise("iPhones and i") == "IPhones and I"
    assert texts.restore_apostrophes("whats wrong, Im late, its tail DONT") == "what's wrong, I'm late, its tail DONT"
    table = texts.truecase_table(["We saw Chicago today"] * 3 + ["I may go", "In May it rains", "She may come"])
    assert table == {"chicago": "Chicago"}
    assert texts.truecase("i may see chicago's lake", table) == "I may see Chicago's lake"


def test_sentences_split_at_ends_only():
    assert texts.split_sentences('Dr. Smith came. "Why?" he asked. J. K. Rowling wrote it! Yes.') == [
        "Dr. Smith came.",
        '"Why?" he asked.',
        "J. K. Rowling wrote it!",
        "Yes.",
    ]


def test_the_same_words_have_the_same_id():
    assert texts.text_id("What's up, Zoë?") == texts.text_id("  whats UP zoë")
    assert texts.text_id("What's up") != texts.text_id("What is up")


def test_splits_are_disjoint_across_roles_and_sources(folder):
    sets = {
        (role, split): list(texts.read_sentences(folder, role, split)) for role in texts.ROLES for split in texts.SPLITS
    }
    train = {each.id for (_, split), found in sets.items() if split == "train" for each in found}
    dev = {each.id for (_, split), found in sets.items() if split == "dev" for each in found}
    assert train and dev and not train & dev
    for (role, split), found in sets.items():
        assert len({each.id for each in found}) == len(found)
        assert all(each.role == role and each.split == split and texts.text_id(each.text) == each.id for each in found)


def test_a_fiftieth_is_dev():
    dev = sum(texts.split_of(texts.text_id(f"sentence number {n}")) == "dev" for n in range(20000))
    assert 300 < dev < 500


def test_roles_hold_what_each_says(folder):
    user = {each.text for each in texts.read_sentences(folder, "user")}
    assistant = {each.text for each in texts.read_sentences(folder, "assistant")}
    assert "What's the weather in Denver?" in user  # cased by what the other sources say
    assert "Who lives in Paris?" in user
    assert "Many people live in Oslo." in assistant and "Dr. Smith is one of them!" in assistant
    assert not any("{" in text for text in user | assistant)
    assert any("bridge" in text for text in assistant)


def test_bounds_and_errors(folder, tmp_path):
    assert all(3 <= len(each.text.split()) <= 5 for each in texts.read_sentences(folder, "user", words=(3, 5)))
    assert all(len(each.text) <= 20 for each in texts.read_sentences(folder, "user", max_chars=20))
    for bad in ({"role": "nobody"}, {"role": "user", "split": "test"}, {"role": "user", "sources": ["songs"]}):
        with pytest.raises(texts.DataError):
            list(texts.read_sentences(folder, **bad))
    with pytest.raises(texts.DataError, match="has none of"):
        list(texts.read_sentences(tmp_path / "elsewhere", "user"))
    with gzip.open(folder / "answers.jsonl.gz", "wt") as file:
        file.write('{"text": \n')
    with pytest.raises(texts.DataError, match="line 1 is not JSON"):
        list(texts.read_sentences(folder, "user", sources=["answers"]))


def test_order_is_repeatable_and_brings_rare_words_early():
    def sentence(text):
        return texts.Sentence(texts.text_id(text), text, "user", "x", "train")

    common = [sentence(f"there are {n} flights") for n in range(300)]
    rare = [sentence(f"Xylophone{n} quagmire{n} zeppelin{n}") for n in range(30)]
    order = texts.shuffled(common + rare, seed=1)
    assert order == texts.shuffled(rare + common, seed=1)
    assert order != texts.shuffled(common + rare, seed=2)
    assert sorted(each.id for each in order) == sorted(each.id for each in common + rare)
    places = [place for place, each in enumerate(order) if each in rare]
    assert sum(places) / len(places) < 0.75 * len(order) / 2
