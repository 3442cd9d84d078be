"""Conversations as codes and grids: frames lie where they should, nothing past a clip's end is a target."""

import json
import pickle
from dataclasses import dataclass, replace

import numpy as np
import pytest
import soundfile
import torch

from antiphon.codecs.mini.model import MiniCodec
from antiphon.data.codes import CodeSet
from antiphon.data.dialogue.codes import (
    CodedDialogue,
    DialogueCodes,
    DialogueCodesWriter,
    encode_dialogue,
    encode_dialogues,
)
from antiphon.data.dialogue.format import Dialogue, DialogueWriter, Event, Word
from antiphon.data.dialogue.grid import NOTHING, TextGrids, grid, weights, window
from antiphon.data.dialogue.monologue import monologue_words
from antiphon.data.dialogue.single_speaker import SingleSpeakerDialogues, silence_codes, spoken_words, timed_words
from antiphon.data.speech.utterances import SpeechSet, SpeechWriter, Utterance
from antiphon.data.tokenize.encode import TokenizeConfig, tokenize
from antiphon.errors import DataError
from antiphon.models.moshi.config import DepthConfig, MoshiConfig
from antiphon.models.moshi.text_tokenizer import END, TextTokenizer
from tests.codecs.mini.test_model import TINY
from tests.data.dialogue.test_monologue import EPAD, PAD, Trigrams

FRAME = TINY.samples_per_frame


@dataclass
class Config:
    """What a grid asks a model's config for."""

    codebooks: int = 3
    user_codebooks: int = 3
    pad: int = PAD
    end_pad: int = EPAD


@pytest.fixture
def codec() -> MiniCodec:
    torch.manual_seed(0)
    return MiniCodec(TINY).eval()


def talk(frames: float, seed: int = 0) -> Dialogue:
    rng = np.random.default_rng(seed)
    model, user = 0.3 * rng.standard_normal((2, int(frames * FRAME))).clip(-3, 3)
    words = [Word("hello", 0.1, 0.2), Word("what", 0.2, 0.25, "user"), Word("there", 0.26, 0.3)]
    return Dialogue(model, user, TINY.sample_rate, words, [Event("turn", 0.1, 0.3, "model", "x")], {"seed": seed})


def coded(frames: int, seed: int = 0, words: list[Word] | None = None) -> CodedDialogue:
    codes = np.random.default_rng(seed).integers(0, 16, (6, frames)).astype(np.int16)
    return CodedDialogue(codes, words or [], [], frames / 12.5, 12.5, f"c{seed}")


# --- on disk -----------------------------------------------------------------------------------------------------


def test_what_was_encoded_comes_back(codec, tmp_path):
    talks = [talk(n, seed) for seed, n in enumerate((7, 4.3, 9))]
    codes = encode_dialogues([(f"t{i}", each) for i, each in enumerate(talks)], codec, tmp_path)
    assert len(codes) == 3 and codes.frames.tolist() == [7, 5, 9]
    assert isinstance(codes[0].codes.base, np.memmap) and codes[0].codes.dtype == np.int16
    assert codes.seconds == pytest.approx(20.3 * 0.08, abs=1e-3)
    for i, (each, found) in enumerate(zip(talks, codes, strict=True)):
        both = torch.from_numpy(np.stack([each.model, each.user]))[:, None]
        assert np.array_equal(found.codes, codec.encode(both).reshape(6, -1).numpy())  # own, then the user's
        assert (found.words, found.events, found.info, found.id) == (each.words, each.events, each.info, f"t{i}")
        assert found.frame_rate == 12.5 and found.seconds == pytest.approx(each.seconds, abs=1e-4)
    again = pickle.loads(pickle.dumps(codes))
    assert np.array_equal(again[1].codes, codes[1].codes)


def test_a_frame_covers_its_samples(codec):
    whole = talk(10)
    ref = encode_dialogue(whole, codec).codes
    for frame in (0, 4, 9):
        sound = whole.user.copy()
        sound[frame * FRAME : (frame + 1) * FRAME] = 0.0
        codes = encode_dialogue(replace(whole, user=sound), codec).codes
        changed = np.flatnonzero((codes != ref).any(axis=0))
        assert changed[0] == frame and (codes[:3] == ref[:3]).all()


def test_other_sample_rates_are_resampled(codec):
    low = talk(20)
    tone = np.sin(np.arange(len(low.model)) * 0.05).astype(np.float32)
    twice = np.sin(np.arange(2 * len(low.model)) * 0.025).astype(np.float32)
    a = encode_dialogue(replace(low, model=tone, user=tone), codec).codes
    b = encode_dialogue(Dialogue(twice, twice, 2 * TINY.sample_rate), codec).codes
    assert a.shape == b.shape == (6, 20)
    assert (a == b)[0].mean() > 0.7  # edges ring


def test_encoding_goes_on_where_it_was_stopped(codec, tmp_path):
    talks = [(f"t{i}", talk(3 + i, i)) for i in range(4)]

    def stopped():
        yield from talks[:2]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode_dialogues(stopped(), codec, tmp_path / "a")
    with (tmp_path / "a" / "manifest.jsonl").open("a") as file:
        file.write('{"id": "t2", "sta')  # a kill: half a line, codes without a line
    (tmp_path / "a" / "shard-00-00001.npy").write_bytes(b"12345")
    assert [c.id for c in DialogueCodes(tmp_path / "a")] == ["t0", "t1"]
    encode_dialogues(talks, codec, tmp_path / "a")
    encode_dialogues(talks, codec, tmp_path / "b")
    for one, other in zip(DialogueCodes(tmp_path / "a"), DialogueCodes(tmp_path / "b"), strict=True):
        assert one.id == other.id and np.array_equal(one.codes, other.codes) and one.words == other.words


def test_an_index_is_encoded_and_only_what_is_missing_is_read(codec, tmp_path):
    with DialogueWriter(tmp_path / "talks") as writer:
        writer.add("one", talk(5))
    first = encode_dialogues(tmp_path / "talks", codec, tmp_path / "codes")
    (tmp_path / "talks" / "sounds" / "one.wav").unlink()  # would not be found if it were read again
    with DialogueWriter(tmp_path / "talks") as writer:
        writer.add("two", talk(6, 1))
    assert [c.id for c in encode_dialogues(tmp_path / "talks" / "index.jsonl", codec, tmp_path / "codes")] == [
        "one",
        "two",
    ]
    assert len(first) == 1
    first.refresh()
    assert len(first) == 2 and first[1].codes.shape == (6, 6)


def theirs(folder, name: str, model: float = 0.3, user: float = 0.2, label: str = "SPEAKER_MAIN", rate: int = 1):
    """Adds a conversation of half a second with a word of each side."""
    rng, size = np.random.default_rng(1), TINY.sample_rate // 2 // rate
    both = np.stack([model * rng.uniform(-1, 1, size), user * rng.uniform(-1, 1, size)], 1)
    soundfile.write(folder / f"{name}.wav", both, TINY.sample_rate // rate)
    words = [["hello", [0.1, 0.2], label], ["you", [0.3, 0.4], "SPEAKER_01"]]
    (folder / f"{name}.json").write_text(json.dumps({"alignments": words}))
    with (folder / "index.jsonl").open("a") as file:
        file.write(json.dumps({"path": f"{name}.wav", "duration": 0.5}) + "\n")


def test_what_a_model_would_learn_wrongly_is_told_with_file_and_line(codec, tmp_path, caplog):
    theirs(tmp_path, "good")
    theirs(tmp_path, "main", label="SPEAKER_00")
    theirs(tmp_path, "silent", model=0.0)
    theirs(tmp_path, "low", rate=2)
    theirs(tmp_path, "mono")
    sound, _ = soundfile.read(tmp_path / "mono.wav")
    soundfile.write(tmp_path / "mono.wav", sound[:, [0, 0]], TINY.sample_rate)
    assert len(encode_dialogues(tmp_path, codec, tmp_path / "codes")) == 5
    told = [
        ("main.wav", "line 2", "none of its 2 words is SPEAKER_MAIN's"),
        ("silent.wav", "line 3", "the model's channel is silent"),
        ("low.wav", "line 4", f"the codec {TINY.sample_rate}"),
        ("mono.wav", "line 5", "both channels are the same sound"),
    ]
    assert len(caplog.messages) == len(told)
    for message, parts in zip(caplog.messages, told):
        assert all(part in message for part in parts), message


def test_words_beyond_the_end_are_left_out_of_conversations_from_memory_too(codec, tmp_path, caplog):
    late = replace(talk(5), words=[Word("hello", 0.1, 0.2), Word("late", 9.0, 9.4)])
    assert encode_dialogues([("x", late)], codec, tmp_path)[0].words == [Word("hello", 0.1, 0.2)]
    assert "x: 1 of 2 words lie beyond" in caplog.text
    with pytest.raises(DataError, match="y: all of its 1 words lie beyond"):
        encode_dialogues([("y", replace(late, words=late.words[1:]))], codec, tmp_path)


def test_missing_files_are_told_before_any_sound_is_encoded(codec, tmp_path):
    for name in "abc":
        theirs(tmp_path, name)
    (tmp_path / "b.json").unlink()
    (tmp_path / "c.wav").unlink()
    with pytest.raises(DataError, match=r"b\.json \(.*line 2\) is missing.* 1 more of 3 conversations"):
        encode_dialogues(tmp_path, codec, tmp_path / "codes")
    assert len(DialogueCodes(tmp_path / "codes")) == 0


def test_what_does_not_fit_is_refused(codec, tmp_path):
    with DialogueCodesWriter(tmp_path, codec) as writer:
        writer.add_coded(coded(3))
        for wrong, told in [
            (coded(3), "already"),
            (replace(coded(3, 1), codes=np.zeros((5, 3), np.int16)), "not \\[6, frames\\]"),
            (replace(coded(3, 1), codes=np.full((6, 3), 16, np.int16)), "do not fit"),
        ]:
            with pytest.raises(DataError, match=told):
                writer.add_coded(wrong)
        with pytest.raises(DataError, match="Another process"):
            DialogueCodesWriter(tmp_path, codec)
    with pytest.raises(DataError, match="write to another folder"):
        DialogueCodesWriter(tmp_path, MiniCodec(TINY))  # other weights
    with pytest.raises(DataError, match="no set of dialogues"):
        DialogueCodes(tmp_path / "nowhere")
    (tmp_path / "shard-00-00000.npy").write_bytes(b"")
    with pytest.raises(DataError, match="cannot be read"):
        _ = DialogueCodes(tmp_path)[0]
    (tmp_path / "set.json").write_text(json.dumps({"format": 9}))
    with pytest.raises(DataError, match="format 9"):
        DialogueCodes(tmp_path)


# --- grids -------------------------------------------------------------------------------------------------------

WORDS = [Word("hello", 0.16, 0.3), Word("you", 0.2, 0.3, "user"), Word("everything", 0.48, 0.9)]


def test_grid_by_hand():
    talk = coded(12, words=WORDS)
    rows = grid(talk, Trigrams(), Config())
    assert rows.shape == (7, 12) and rows.dtype == torch.int64
    # " he" "llo" are 10, 11; " ev" "ery" "thi" "ng" 12 to 15; what the user says is not in it
    assert rows[0].tolist() == [PAD, EPAD, 10, 11, PAD, EPAD, 12, 13, 14, 15, PAD, PAD]
    assert (rows[1:].numpy() == talk.codes).all()
    fewer = grid(talk, Trigrams(), Config(codebooks=2, user_codebooks=1))
    assert (fewer[1:].numpy() == talk.codes[[0, 1, 3]]).all()  # the first of each
    assert (grid(talk, Trigrams(), Config(), text=False)[0] == NOTHING).all()
    assert grid(talk, Trigrams(), Config(), text_shift=0.16)[0, 3:6].tolist() == [EPAD, 10, 11]
    with pytest.raises(DataError, match="has 3 codebooks, the model 8"):
        grid(talk, Trigrams(), Config(codebooks=8))


def test_a_window_that_starts_inside_a_word():
    whole = grid(coded(12, words=WORDS), Trigrams(), Config())
    inside, start, past = (window(whole, first, 8, [0] * 7) for first in (7, 0, 12))
    assert inside[0].tolist() == [13, 14, 15, PAD, PAD, -1, -1, -1]
    assert start[0].tolist() == [PAD, EPAD, 10, 11, PAD, EPAD, 12, 13]
    assert torch.equal(inside[:, :5], whole[:, 7:]) and (inside[:, 5:] == NOTHING).all()
    assert (past == NOTHING).all()
    with pytest.raises(ValueError, match="frame 0 or later"):
        window(whole, -1, 4, [0] * 7)


def test_a_window_in_the_middle_begins_as_a_conversation_does():
    whole = torch.arange(30).view(3, 10)
    got = window(whole, 4, 4, [0, 2, 1])
    assert got.tolist() == [[4, 5, 6, 7], [-1, -1, 14, 15], [-1, 24, 25, 26]]
    assert window(whole, 8, 5, [0, 2, 1]).tolist() == [[8, 9, -1, -1, -1], [-1, -1, 18, 19, -1], [-1, 28, 29, -1, -1]]


@pytest.mark.parametrize("delays", [[0, 0, 1, 1, 0, 1, 1], [0, 0, 2, 2, 0, 2, 2], [2, 0, 0, 0, 0, 0, 0], [0] * 7])
@pytest.mark.parametrize("predicted", [3, 6])
def test_the_masking_defect_of_moshi_finetune_is_absent(delays, predicted):
    """A batch of clips of unequal lengths has 0 targets past any clip's end, after the delays too."""
    lengths, frames = [5, 12, 1, 9, 20], 12
    wholes = [grid(coded(n, seed, WORDS), Trigrams(), Config()) for seed, n in enumerate(lengths)]
    batch = torch.stack([window(whole, 0, frames, delays) for whole in wholes])
    counts = weights(batch, codebooks=3, predicted=predicted)
    assert counts.shape == (5, 1 + predicted, frames)
    for row, length in enumerate(lengths):
        for k in range(1 + predicted):
            there = (counts[row, k] > 0).nonzero().flatten().tolist()
            assert there == list(range(delays[k], min(delays[k] + length, frames)))  # the last at length - 1 + delay
            assert (batch[row, k, there] == wholes[row][k, : len(there)]).all()
    assert torch.equal(counts > 0, batch[:, : 1 + predicted] >= 0)


def test_weights_by_hand():
    delayed = torch.tensor(
        [
            [PAD, EPAD, 10, 11, PAD, -1],
            [4, 5, 6, 7, 0, -1],
            [-1, 4, 5, 6, 7, 0],
            [0, 0, 3, 3, 3, -1],
            [-1, 0, 0, 3, 3, 3],
        ]
    )
    own = [[0.5, 0.5, 1, 1, 0.5, 0], [100, 100, 100, 100, 100, 0], [0, 1, 1, 1, 1, 1]]
    assert weights(delayed, codebooks=2, predicted=2).tolist() == own
    both = [*own, [100, 100, 100, 100, 100, 0], [0, 1, 1, 1, 1, 1]]
    assert weights(delayed, codebooks=2, predicted=4).tolist() == both
    other = weights(delayed[None], 2, 2, pad=10, end_pad=11, semantic=7.0, acoustic=2.0, text=3.0, text_padding=0.0)
    assert other.tolist() == [[[3, 3, 0, 0, 3, 0], [7, 7, 7, 7, 7, 0], [0, 2, 2, 2, 2, 2]]]
    assert weights(delayed, 2, 2, text=0.0, text_padding=0.0)[0].sum() == 0
    with pytest.raises(ValueError, match="5 predicted codes of 4"):
        weights(delayed, 2, 5)


def test_a_moshis_own_config_and_pieces():
    pieces = TextTokenizer.train(["hello there everything you"], 270)
    config = MoshiConfig(dim=8, heads=2, layers=1, inner=8, text_card=270, codebooks=3, user_codebooks=3, card=16,
                         depth=DepthConfig(8, 2, 1, 8, 3))  # fmt: skip
    wholes = [grid(talk, pieces, config) for talk in (coded(40, 0, WORDS), coded(25, 1))]
    frames = 40 + config.max_delay
    batch = torch.stack([window(whole, 0, frames, config.delays) for whole in wholes])
    assert batch.shape == (2, config.streams, frames)
    assert [w.text for w in monologue_words(wholes[0][0], 12.5, pieces)] == ["hello", "everything"]
    counts = weights(batch, config.codebooks, config.depth.codebooks, config.pad, config.end_pad)
    assert (counts > 0).sum().item() == (40 + 25) * 4


def test_texts_alone():
    pieces = Trigrams()
    texts = TextGrids(["we say", "hello you", ""], pieces, Config())
    # " we" " sa" "y" | " he" "llo" " yo" "u" | nothing |
    assert texts.ids.tolist() == [10, 11, 12, END, 13, 14, 15, 16, END, END]
    rows = texts.batch(np.random.default_rng(0), 50, 6)
    assert rows.shape == (50, 7, 6) and (rows[:, 1:] == NOTHING).all()
    ring = texts.ids.tolist() * 2
    assert {tuple(row.tolist()) for row in rows[:, 0]} == {tuple(ring[i : i + 6]) for i in range(10)}
    counts = weights(rows, 3, 3)
    assert (counts[:, 0] == 1).all() and (counts[:, 1:] == 0).all()
    with pytest.raises(DataError, match="no texts"):
        TextGrids([], pieces, Config())


# --- one voice alone ---------------------------------------------------------------------------------------------


def test_words_of_phonemes_by_hand():
    edges = [0.1, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.9]
    spoken = list(zip("hˈI, ju.", edges, edges[1:]))
    assert spoken_words(spoken) == [("hˈI,", 0.1, 0.3), ("ju.", 0.5, 0.7)]
    words = timed_words("Hi, you.", spoken_words(spoken))
    assert words == [Word("Hi,", 0.1, 0.3), Word("you.", 0.5, 0.7)]
    assert timed_words("Hi, - you.", spoken_words(spoken)) == words
    assert timed_words("$44.", spoken_words(spoken)) is None


def test_a_code_set_as_conversations(codec, tmp_path):
    rng = np.random.default_rng(0)
    with SpeechWriter(tmp_path / "speech", TINY.sample_rate) as writer:
        for number, (text, seconds) in enumerate([("no oh.", 0.9), ("two too many", 0.7), ("on no", 0.5)]):
            ends = [seconds * share for share in (0.4, 0.5, 0.55, 0.7, 0.9)]
            words = [("nO", 0.2, ends[1]), ("nO", ends[2], ends[4])]
            said = Utterance(str(number), text, "v", 0.0, 0, "", "", "nO nO", ends, 0.2, words)
            writer.add(said, 0.1 * rng.standard_normal(int(seconds * TINY.sample_rate)))
    speech = SpeechSet(tmp_path / "speech")
    tokenize(TokenizeConfig(speech.folder, tmp_path / "codes", "tiny", lead=0.08), False, codec)
    made = CodeSet(tmp_path / "codes", codec)
    talks = SingleSpeakerDialogues(made, codec)
    assert talks.kept == [0, 2] and talks.share == pytest.approx(2 / 3) and len(talks) == 2
    second = talks[1]
    assert (second.codes[:3] == made[2]).all() and second.frames == made[2].shape[1]
    assert (second.codes[3:] == codec.encode(torch.zeros(1, 1, second.frames * FRAME))[0].numpy()).all()
    assert [(w.text, w.speaker) for w in second.words] == [("on", "model"), ("no", "model")]
    np.testing.assert_allclose([w.start for w in second.words], [0.08, 0.5 * 0.55 - 0.12], atol=1e-3)
    rows = grid(second, Trigrams(), Config())
    assert rows.shape == (7, second.frames) and rows[0].tolist().count(10) == 1
    assert (rows[4:].numpy() == silence_codes(codec, second.frames)).all()
