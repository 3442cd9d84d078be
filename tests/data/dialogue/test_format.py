"""Two-channel conversations: moshi-finetune's files are read as they are, ours come back and can be read by others."""
import json

import numpy as np
import pytest
import soundfile

from antiphon.data.dialogue.format import Conversation, ConversationWriter, Event, Word, read_conversations, read_index
from antiphon.errors import AntiphonError, DataError

RATE = 8000


def talk(seconds: float = 0.5, seed: int = 0) -> Conversation:
    rng = np.random.default_rng(seed)
    model, user = 0.2 * rng.standard_normal((2, int(seconds * RATE))).clip(-4, 4)
    words = [Word("hello,", 0.1, 0.2, "user"), Word("Yes?", 0.3, 0.4123)]
    events = [Event("turn", 0.1, 0.2, "user", "greeting"), Event("pause", 0.15, 0.18)]
    return Conversation(model, user, RATE, words, events, {"seed": seed})


def theirs(folder, alignments, name="a", channels=2, **row):
    """A file as moshi-finetune's users make them."""
    rng = np.random.default_rng(1)
    sound = 0.1 * rng.standard_normal((RATE, channels))
    soundfile.write(folder / f"{name}.wav", sound, RATE, subtype="FLOAT")
    if alignments is not None:
        (folder / f"{name}.json").write_text(json.dumps({"alignments": alignments}))
    with (folder / "data.jsonl").open("a") as file:
        file.write(json.dumps({"path": f"{name}.wav", "duration": 1.0, **row}) + "\n")
    return sound


def test_the_format_of_moshi_finetune_is_read_as_it_is(tmp_path):
    sound = theirs(tmp_path, [[" Hello", [0.0, 0.38], "SPEAKER_MAIN"], ["you", [0.5, 0.5], "SPEAKER_01"]])
    theirs(tmp_path, [], name="b", path=str(tmp_path / "b.wav"))  # an absolute path, nothing said
    first, second = read_conversations(tmp_path / "data.jsonl")
    assert first[0] == "a.wav" and second[0] == str(tmp_path / "b.wav")
    np.testing.assert_allclose(first[1].model, sound[:, 0], atol=1e-6)  # left
    np.testing.assert_allclose(first[1].user, sound[:, 1], atol=1e-6)
    assert first[1].words == [Word("Hello", 0.0, 0.38, "model"), Word("you", 0.5, 0.5, "user")]
    assert first[1].sample_rate == RATE and first[1].events == [] and first[1].seconds == 1.0
    assert second[1].words == []
    assert len(read_index(tmp_path / "data.jsonl")[0].load(sample_rate=2 * RATE).model) == 2 * RATE


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_what_was_written_comes_back(tmp_path, suffix):
    with ConversationWriter(tmp_path, suffix) as writer:
        for number in range(3):
            writer.add(f"t{number}", talk(seed=number))
        assert writer.done == {"t0", "t1", "t2"}
    for number, (identity, found) in enumerate(read_conversations(tmp_path)):
        made = talk(seed=number)
        assert identity == f"t{number}" and found.info == {"seed": number}
        assert found.words == made.words and found.events == made.events
        np.testing.assert_allclose(found.model, made.model.clip(-1, 1), atol=1e-4)
        np.testing.assert_allclose(found.user, made.user.clip(-1, 1), atol=1e-4)
    assert {path.suffix for path in (tmp_path / "sounds").iterdir()} == {suffix, ".json"}


def test_writing_goes_on_where_it_was_killed(tmp_path):
    writer = ConversationWriter(tmp_path)
    writer.add("whole", talk())
    writer.close()
    with (tmp_path / "index.jsonl").open("a") as file:
        file.write('{"path": "sounds/cu')
    (tmp_path / "sounds" / "later.wav").write_bytes(b"half")
    with ConversationWriter(tmp_path) as writer, ConversationWriter(tmp_path) as other:  # two may write
        assert writer.done == {"whole"}
        writer.add("later", talk(seed=1))
        other.add("of-the-other", talk(seed=2))
        with pytest.raises(DataError, match="already"):
            writer.add("later", talk())
        with pytest.raises(DataError, match="file's name"):
            writer.add("a/b", talk())
    found = dict(read_conversations(tmp_path))
    assert set(found) == {"whole", "later", "of-the-other"} and found["later"].info == {"seed": 1}


def broken(folder, what):
    index = folder / "data.jsonl"
    if what == "no sidecar":
        theirs(folder, None)
    elif what == "mono":
        theirs(folder, [], channels=1)
    elif what == "no json":
        theirs(folder, [])
        (folder / "a.json").write_text("{")
    elif what == "no alignments":
        theirs(folder, [])
        (folder / "a.json").write_text("[]")
    elif what == "no sound":
        theirs(folder, [])
        (folder / "a.wav").unlink()
    elif what == "two numbers":
        theirs(folder, [["a", [0, 1], "SPEAKER_MAIN"], ["b", 0.5, 1.0]])
    elif what == "no time":
        theirs(folder, [["a", [0.5, None], "SPEAKER_MAIN"]])
    elif what == "negative":
        theirs(folder, [["a", [-0.5, 0.2], "SPEAKER_MAIN"]])
    elif what == "not a number":
        theirs(folder, [["a", [float("nan"), 0.2], "SPEAKER_MAIN"]])
    elif what == "no text":
        theirs(folder, [[None, [0.1, 0.2], "SPEAKER_MAIN"]])
    elif what == "all late":
        theirs(folder, [["a", [100, 200], "SPEAKER_MAIN"], ["b", [200, 300], "SPEAKER_MAIN"]])  # milliseconds
    elif what == "backwards":
        theirs(folder, [["a", [0.5, 0.2], "SPEAKER_MAIN"]])
    elif what == "event":
        theirs(folder, [])
        (folder / "a.json").write_text(json.dumps({"alignments": [], "events": [["dance", [0, 1], "user", ""]]}))
    elif what == "line":
        theirs(folder, [])
        index.write_text(index.read_text() + '{"path": "b.wav"}\n')
    elif what == "duration":
        theirs(folder, [], duration=-1.0)
    elif what == "twice":
        theirs(folder, [])
        theirs(folder, [])
    elif what == "nothing":
        index.write_text("\n")
    return index


@pytest.mark.parametrize(
    "what, told",
    [
        ("no sidecar", r"a\.json \(.*data\.jsonl, line 1\) is missing"),
        ("mono", r"a\.wav \(.*line 1\) has 1 channel"),
        ("no json", r"a\.json \(.*line 1\) is not"),
        ("no alignments", r"a\.json \(.*line 1\) is not"),
        ("no sound", r"a\.wav: no such file"),
        ("two numbers", r"a\.json \(.*line 1\), alignment 2: \[\"b\", 0\.5, 1\.0\]"),
        ("no time", r"alignment 1: .*null"),
        ("negative", r"alignment 1: .*0 s or later"),
        ("not a number", r"alignment 1: .*0 s or later"),
        ("no text", r"alignment 1: .*a word is a string"),
        (
            "all late",
            r"a\.wav \(.*line 1\): all of its 2 words lie beyond .* at 1\.00 s, such as 'a' at 100 s",
        ),
        ("backwards", r"alignment 1: .*not end before it starts"),
        ("event", r"event 1: .*dance"),
        ("line", r"data\.jsonl, line 2: not a row .*duration"),
        ("duration", r"data\.jsonl, line 1: a duration of -1"),
        ("twice", r"line 2: 'a\.wav' is in .*line 1 already"),
        ("nothing", "holds no conversations"),
        ("no index", "cannot be read as an index"),
    ],
)
def test_errors_name_file_and_line(tmp_path, what, told):
    with pytest.raises(AntiphonError, match=told):
        list(read_conversations(broken(tmp_path, what)))


@pytest.mark.parametrize(
    "words, row, kept, told",
    [
        ([["a", [0.1, 0.2]], ["late", [9.0, 9.4]]], {}, ["a"], "1 of 2 words lie beyond the sound's end at 1.00 s"),
        ([["a", [0.1, 7.0]]], {}, ["a"], "'a' lasts until 7 s, the sound 1.00 s; it ends there"),
        ([["a", [0.1, 0.5]], ["b", [0.2, 0.6]]], {}, ["a", "b"], "words of the model overlap: 'a' (0.1 to 0.5 s)"),
        ([["b", [0.6, 0.7]], ["a", [0.1, 0.2]]], {}, ["a", "b"], "not in the order of their times: 'b' (0.6 to 0.7 s)"),
        ([["a", [0.1, 0.2]], [" ", [0.3, 0.4]]], {}, ["a"], "1 words without text are left out"),
        ([["a", [0.1, 0.2]]], {"duration": 12.0}, ["a"], "the index gives 12 s, the sound has 1.00"),
    ],
)
def test_what_is_odd_is_told_with_file_and_line(tmp_path, caplog, words, row, kept, told):
    theirs(tmp_path, [[*word, "SPEAKER_MAIN"] for word in words], **row)
    ((_, found),) = read_conversations(tmp_path / "data.jsonl")
    assert [word.text for word in found.words] == kept and all(word.end <= 1.0 for word in found.words)
    assert len(caplog.messages) == 1 and told in caplog.text
    assert "a.wav" in caplog.text and "data.jsonl, line 1" in caplog.text


def test_what_is_as_it_should_be_is_not_told(tmp_path, caplog):
    theirs(tmp_path, [["a", [0.1, 0.55], "SPEAKER_MAIN"], ["b", [0.5, 0.7], "X"], ["c", [0.5, 1.05], "SPEAKER_MAIN"]])
    list(read_conversations(tmp_path / "data.jsonl"))
    assert not caplog.messages  # times may be a little off


def test_the_same_fault_is_not_told_a_thousand_times(tmp_path, caplog):
    for number in range(20):
        theirs(tmp_path, [], name=f"n{number}", duration=3.0)
    list(read_conversations(tmp_path / "data.jsonl"))
    assert len(caplog.messages) == 4 and "n2.wav" in caplog.messages[2]
    assert caplog.messages[3] == "17 more conversations: the index gives another duration than the sound has"


def test_a_conversation_that_makes_no_sense_is_refused():
    with pytest.raises(DataError, match="pad the shorter"):
        Conversation(np.zeros(3), np.zeros(4), RATE)
    with pytest.raises(DataError, match="speakers"):
        Conversation(np.zeros(3), np.zeros(3), RATE, [Word("a", 0, 1, "moshi")])
    with pytest.raises(DataError, match="0 s or later"):
        Conversation(np.zeros(3), np.zeros(3), RATE, [Word("a", 0, float("nan"))])
    with pytest.raises(DataError, match="an event is one of"):
        Conversation(np.zeros(3), np.zeros(3), RATE, [], [Event("dance", 0, 1)])
    late, early = Word("b", 1, 2), Word("a", 0, 3, "user")
    assert Conversation(np.zeros(3), np.zeros(3), RATE, [late, early]).words == [early, late]
