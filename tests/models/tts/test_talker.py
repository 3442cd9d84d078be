"""The talker: text in pieces equals text whole, steps equal teacher forcing, masks, gradients, one batch learned
by heart.
"""

import random
from dataclasses import replace

import pytest
import torch

from antiphon.errors import HubError, ModelError
from antiphon.models.tts.durations import TalkerConfig, read_timeline
from antiphon.models.tts.phonemes import alphabet
from antiphon.models.tts.talker import Talker, TalkerState
from antiphon.nn.delays import delay
from antiphon.nn.state import fork, join, select

TINY = TalkerConfig(
    hidden=6, encoder_dim=16, encoder_layers=2, encoder_kernel=3, dim=16, heads=2, inner=24, layers=2, depth_dim=12,
    depth_heads=2,
    depth_inner=16, depth_layers=1, codebooks=3, codebook_size=11, code_dim=5,
)  # fmt: skip
TEXT = "ðə kˈæpəTᵊl ʌv ˈɪTəli ɪz ɹˈOm."


@pytest.fixture
def talker() -> Talker:
    torch.manual_seed(0)
    talker = Talker(TINY).eval()
    for linear in talker.out:
        torch.nn.init.normal_(linear.weight, std=0.5)
    torch.nn.init.constant_(talker.encoder.duration[-1].bias, 1.2)  # a fresh model gives phonemes no time at all
    return talker


def speak(talker, pieces, **sampling):
    state, frames = talker.init_state(**sampling), []
    for piece in pieces:
        talker.add_phonemes(piece, state)
        while (codes := talker.step(state)) is not None:
            frames.append(codes)
    early = len(frames)
    talker.end_text(state)
    while (codes := talker.step(state)) is not None:
        frames.append(codes)
    return torch.cat(frames, -1), state, early


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_text_in_pieces_gives_the_same_codes(talker, size):
    pieces = [TEXT[i : i + size] for i in range(0, len(TEXT), size)]
    codes, state, early = speak(talker, pieces, seed=3, temperature=0.8, top_k=5)
    whole, _, _ = speak(talker, [TEXT], seed=3, temperature=0.8, top_k=5)
    assert torch.equal(codes, whole) and codes.shape == (1, 3, state.text.last_frame)
    assert early > 0  # sound starts before the text is complete


def test_the_seed_decides(talker):
    one, two = (speak(talker, [TEXT], seed=seed, temperature=1.0, top_k=0)[0] for seed in (1, 2))
    assert not torch.equal(one, two)
    assert torch.equal(one, speak(talker, [TEXT], seed=1, temperature=1.0, top_k=0)[0])


def test_greedy_steps_equal_teacher_forcing(talker):
    codes, state, _ = speak(talker, [TEXT], temperature=0.0)
    grid = delay(codes, TINY.delays, fill=-1)
    symbols = torch.tensor([state.text.symbols])
    keep = torch.ones_like(grid[:, 0], dtype=torch.bool)
    logits, _ = talker(symbols, torch.ones_like(symbols, dtype=torch.bool), state.text.ends, grid, keep)
    for level, scores in enumerate(logits):
        there = grid[0, level] >= 0
        assert torch.equal(scores.argmax(-1)[there], grid[0, level][there])


def test_each_speaker_has_a_voice_and_a_pace_of_their_own():
    torch.manual_seed(0)
    talker = Talker(replace(TINY, speakers=["anna", "bert"])).eval()
    for weight in (*(linear.weight for linear in talker.out), talker.encoder.speaker.weight):
        torch.nn.init.normal_(weight, std=0.5)
    torch.nn.init.constant_(talker.encoder.duration[-1].bias, 1.2)
    anna, bert = (speak(talker, [TEXT], temperature=0.0, speaker=speaker) for speaker in talker.config.speakers)
    assert not torch.equal(anna[1].text.ends, bert[1].text.ends)
    assert not torch.equal(anna[0][..., :4], bert[0][..., :4])
    assert torch.equal(anna[0], speak(talker, [TEXT], temperature=0.0)[0])  # the first, where none is named
    states = [talker.init_state(temperature=0.0, speaker=speaker) for speaker in talker.config.speakers]
    for state in states:
        talker.add_phonemes(TEXT, state)
        talker.end_text(state)
    for alone, said in zip((anna, bert), talker.speak(states)):
        assert torch.equal(said, alone[0][0])
    with pytest.raises(ModelError, match="no voice 'carl'; there are: anna, bert"):
        talker.init_state(speaker="carl")
    symbols = torch.tensor([anna[1].text.symbols] * 2)
    _, durations = talker.encoder(symbols, speaker=torch.tensor([0, 1]))
    for row, speaker in enumerate((0, 1)):
        torch.testing.assert_close(durations[row], talker.encoder(symbols[:1], speaker=torch.tensor([speaker]))[1][0])
    assert not torch.allclose(durations[0], durations[1])


def test_speakers_begin_as_the_talker_with_one_voice(tmp_path):
    Talker(TINY).save_pretrained(tmp_path)
    one, two = Talker.from_pretrained(tmp_path), Talker(replace(TINY, speakers=["anna", "bert"])).eval()
    two.codes.copy_(one.codes)
    two.load_state_dict(two.read_weights(tmp_path), strict=False)
    symbols = torch.tensor([[0, 62, 83, 0]])
    for speaker in (0, 1):
        features = zip(one.encoder(symbols), two.encoder(symbols, speaker=torch.tensor([speaker])))
        assert all(torch.equal(*each) for each in features)


def test_speakers_are_saved_with_the_talker(tmp_path):
    Talker(replace(TINY, speakers=["anna", "bert"])).save_pretrained(tmp_path)
    assert Talker.from_pretrained(tmp_path).config.speakers == ["anna", "bert"]


def test_training_goes_on_with_the_speakers_that_are_known_and_with_another_codec(tmp_path):
    torch.manual_seed(0)
    first = Talker(replace(TINY, speakers=["anna", "bert"]))
    torch.nn.init.normal_(first.encoder.speaker.weight)
    first.save_pretrained(tmp_path)
    more = Talker(replace(TINY, speakers=["bert", "carl"]))
    more.codes.copy_(first.codes)
    taken = more.read_weights(tmp_path)
    assert set(taken) == set(first.state_dict()) - {"codes"}
    table = taken["encoder.speaker.weight"]
    torch.testing.assert_close(table[0], first.encoder.speaker.weight[1], atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(table[1], first.encoder.speaker.weight.mean(0), atol=1e-3, rtol=1e-3)
    with pytest.raises(HubError, match="speaks as anna, bert, and none of them is to be learnt"):
        Talker(TINY).read_weights(tmp_path)
    other = Talker(replace(TINY, codebooks=5, speakers=["anna"]))
    taken = other.read_weights(tmp_path)
    assert {name.split(".")[0] for name in taken} == {"encoder", "read", "temporal", "depth"}
    other.load_state_dict(taken, strict=False)
    torch.testing.assert_close(other.encoder.embed.weight, first.encoder.embed.weight, atol=1e-3, rtol=1e-3)


def test_padding_changes_nothing(talker):
    symbols = torch.tensor([[0, 62, 83, 0]])
    padded = torch.tensor([[0, 62, 83, 0, 0, 0]])
    mask = torch.tensor([[True] * 4 + [False] * 2])
    features, durations = talker.encoder(symbols)
    more, longer = talker.encoder(padded, mask=mask)
    torch.testing.assert_close(more[:, :4], features)
    torch.testing.assert_close(longer[:, :4], durations)


def test_reading_the_timeline_by_hand():
    ends = torch.tensor([[0.1, 0.3, 0.4]])
    index, place = read_timeline(ends, torch.tensor([[0.05, 0.1, 0.25, 9.0]]))
    assert index.tolist() == [[0, 1, 1, 2]]
    torch.testing.assert_close(place[0, 2], torch.tensor([0.15, 0.05]))
    torch.testing.assert_close(place[0, 3], torch.tensor([0.5, -0.5]))


def test_codes_of_frames_to_come_are_not_seen(talker):
    grid = torch.randint(0, 11, (1, 3, 8))
    symbols, ends = torch.tensor([[0, 62, 83, 0]]), torch.tensor([[0.1, 0.3, 0.5, 0.64]])
    mask, keep = torch.ones_like(symbols, dtype=torch.bool), torch.ones(1, 8, dtype=torch.bool)
    before, _ = talker(symbols, mask, ends, grid, keep)
    changed = grid.clone()
    changed[:, :, 5:] = (changed[:, :, 5:] + 1) % 11
    changed[:, 2, 4] = (changed[:, 2, 4] + 1) % 11  # the last code of its frame is seen by nobody in that frame
    after, _ = talker(symbols, mask, ends, changed, keep)
    for a, b in zip(before, after):
        torch.testing.assert_close(a[:5], b[:5])
    assert not torch.allclose(before[0][5], after[0][5])


def test_every_parameter_learns_and_the_thinker_is_ignored_at_first(talker):
    grid = delay(torch.randint(0, 11, (2, 3, 6)), TINY.delays, fill=-1)
    symbols, ends = torch.randint(1, 60, (2, 5)), torch.linspace(0.1, 0.48, 5).expand(2, -1).contiguous()
    mask, keep = torch.ones_like(symbols, dtype=torch.bool), torch.ones(2, 7, dtype=torch.bool)
    hidden = torch.randn(2, 5, 6)
    with torch.no_grad():
        without, _ = talker(symbols, mask, ends, grid, keep)
        with_it, _ = talker(symbols, mask, ends, grid, keep, hidden)
    torch.testing.assert_close(without[0], with_it[0])
    logits, durations = talker(symbols, mask, ends, grid, keep, hidden)
    (sum(scores.square().mean() for scores in logits) + durations.square().mean()).backward()
    for name, parameter in talker.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all() and parameter.grad.abs().sum() > 0, (
            name
        )


def test_a_fresh_talker_is_undecided():
    torch.manual_seed(0)
    talker = Talker(TalkerConfig(layers=1, depth_layers=1))
    grid = torch.randint(0, 1024, (1, 8, 4))
    symbols, ends = torch.tensor([[0, 62, 0]]), torch.tensor([[0.1, 0.2, 0.32]])
    keep = torch.ones(1, 4, dtype=torch.bool)
    logits, _ = talker(symbols, torch.ones_like(symbols, dtype=torch.bool), ends, grid, keep)
    for level, scores in enumerate(logits):
        loss = torch.nn.functional.cross_entropy(scores, grid[0, level])
        assert abs(float(loss) - 6.93) < 0.2


def test_one_batch_is_learned_by_heart(talker):
    torch.manual_seed(0)
    codes = torch.randint(0, 11, (1, 3, 8))
    grid = delay(codes, TINY.delays, fill=-1)
    symbols = torch.tensor([[0, *(alphabet()[c] for c in "ɹˈOm"), 0]])
    ends = torch.tensor([[0.1, 0.2, 0.25, 0.4, 0.5, 0.64]])
    mask, keep = torch.ones_like(symbols, dtype=torch.bool), torch.ones(1, 9, dtype=torch.bool)
    optimizer = torch.optim.Adam(talker.train().parameters(), 1e-2)
    for _ in range(250):
        logits, _ = talker(symbols, mask, ends, grid, keep)
        loss = sum(torch.nn.functional.cross_entropy(s, grid[0, k], ignore_index=-1) for k, s in enumerate(logits))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.1


def test_saved_and_loaded_it_says_the_same(talker, tmp_path):
    talker.half().float()
    talker.save_pretrained(tmp_path)
    again = Talker.from_pretrained(tmp_path)
    assert torch.equal(speak(talker, [TEXT], temperature=0.0)[0], speak(again, [TEXT], temperature=0.0)[0])


def test_rows_out_of_step_say_what_each_says_alone(talker):
    """Utterances begin at other times, wait for their text, end and leave; each with a sampling of its own."""
    draw, spoken = random.Random(5), {}
    texts = [TEXT, TEXT[:9], TEXT[5:], TEXT[3:20]]
    how = [dict(seed=3, temperature=0.8, top_k=5), dict(temperature=0.0), dict(seed=4, temperature=1.0, top_k=0),
           dict(seed=5, temperature=0.8, top_k=5)]  # fmt: skip
    alone = [speak(talker, [text], **each)[0] for text, each in zip(texts, how)]
    states = [talker.init_state(**each) for each in how]
    left, rows, speech = list(texts), [], select(states[0].speech, [])
    fresh = [0, 1, 2, 3]
    for _ in range(400):
        if fresh and len(rows) < 3:
            rows, speech = [*rows, fresh[0]], join([speech, states[fresh[0]].speech])
            spoken[fresh.pop(0)] = []
        if not rows:
            break
        row = draw.choice(rows)
        if not states[row].text.complete:
            talker.add_phonemes(left[row][:4], states[row])
            left[row] = left[row][4:]
            if not left[row]:
                talker.end_text(states[row])
        twin = fork(speech)
        codes = talker.step_rows([states[row].text for row in rows], speech)
        assert torch.equal(talker.step_rows([states[row].text for row in rows], twin), codes)
        for row, frame in zip(rows, codes):
            if int(frame[0]) >= 0:
                spoken[row].append(frame)
        going = [n for n, row in enumerate(rows)
                 if not (states[row].text.complete and int(speech.frame[n]) >= states[row].text.steps)]  # fmt: skip
        draw.shuffle(going)
        rows, speech = [rows[n] for n in going], select(speech, going)
    for row, codes in enumerate(alone):
        assert torch.equal(torch.stack(spoken[row], dim=1)[None], codes)


def test_said_at_once_is_what_each_says_alone(talker):
    """Texts of different lengths, seeds and temperatures."""
    states = []
    for seed, text in enumerate((TEXT, TEXT[:9], TEXT[:20], TEXT)):
        state = talker.init_state(seed, temperature=0.5 * seed, top_k=0)
        talker.add_phonemes(text, state)
        talker.end_text(state)
        states.append(state)
    alone = []
    for state in map(fork_whole, states):
        frames = []
        while (codes := talker.step(state)) is not None:
            frames.append(codes[0])
        alone.append(torch.cat(frames, -1))
    for together, own in zip(talker.speak(states), alone, strict=True):
        assert together.tolist() == own.tolist()
    assert talker.speak([]) == []


def fork_whole(state: TalkerState) -> TalkerState:
    return TalkerState(state.text, fork(state.speech))


@torch.no_grad()
def test_past_its_end_a_padded_row_reads_its_own_last_symbol(talker):
    ends = torch.tensor([[0.1, 0.3, 0.4], [0.1, 0.2, 0.2]])
    features = torch.randn(2, 3, TINY.encoder_dim)
    padded = talker.conditions(features, ends, 0, 8, torch.tensor([2, 1]))
    alone = talker.conditions(features[1:, :2], ends[1:, :2], 0, 8)
    torch.testing.assert_close(padded[1:], alone)


def in_a_situation() -> Talker:
    torch.manual_seed(0)
    talker = Talker(replace(TINY, situation=3)).eval()
    for linear in (*talker.out, talker.encoder.situation.up):
        torch.nn.init.normal_(linear.weight, std=0.5)
    torch.nn.init.constant_(talker.encoder.duration[-1].bias, 1.2)
    talker.encoder.situation.take_states(torch.randn(9, 6) * torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0, 50.0]))
    return talker


@pytest.mark.parametrize("size", [1, 4, 100])
def test_a_reply_is_said_as_it_begins_however_its_text_comes(size):
    talker, states = in_a_situation(), torch.randn(3, 2, 6)

    def said(states: list) -> TalkerState:
        state = talker.init_state(temperature=0.0)
        for place, at in enumerate(range(0, len(TEXT), size)):
            talker.add_phonemes(TEXT[at : at + size], state, states[place % len(states)])
        talker.end_text(state)
        return state

    first, others = said([states[0]]), said([states[0], states[1], None])
    torch.testing.assert_close(first.text.features, others.text.features, rtol=1e-5, atol=1e-5)
    symbols = torch.tensor([first.text.symbols])
    whole, _ = talker.encoder(symbols, states[:1])
    torch.testing.assert_close(first.text.features, whole, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(said([states[2]]).text.features, whole, atol=1e-3)
    alone, _ = talker.encoder(symbols)
    torch.testing.assert_close(said([None]).text.features, alone, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(talker.encoder(symbols, torch.zeros(1, 3, 6))[0], alone)


def test_what_was_said_before_counts_as_much_as_it_says_and_less_the_older_it_is():
    situation = in_a_situation().encoder.situation
    states = torch.randn(4, 3, 6)
    only = situation(states[:, 2:])
    padded = torch.cat([torch.zeros(4, 2, 6), states[:, 2:]], dim=1)
    torch.testing.assert_close(situation(padded), only)  # nothing was said before
    assert not torch.allclose(situation(states), only, atol=1e-3)
    with torch.no_grad():
        situation.age_penalty.fill_(30.0)
    torch.testing.assert_close(situation(states), only)  # nothing old counts
    with torch.no_grad():
        said = torch.tanh(situation.down((states - situation.mean) / situation.deviation))
        situation.score.weight.copy_(1000.0 * said[:1, 0])  # who says what the first turn of the first row says
    torch.testing.assert_close(situation(states)[:1], situation.up(said[:1, 0]), rtol=1e-3, atol=1e-3)


def test_a_talker_that_begins_to_read_situations_keeps_the_rest(talker, tmp_path):
    other = in_a_situation()
    other.codes.mul_(30.0)  # as far from zero as a few of the codec are: stored, they are rounded
    talker.codes.copy_(other.codes)
    talker.save_pretrained(tmp_path / "a")
    taken = other.read_weights(tmp_path / "a")
    assert {name for name in other.state_dict() if name not in taken} == {
        "codes", *(f"encoder.situation.{name}" for name in other.encoder.situation.state_dict()),
    }  # fmt: skip
    other.save_pretrained(tmp_path / "b")
    again = Talker.from_pretrained(tmp_path / "b")
    torch.testing.assert_close(again.encoder.situation.deviation, other.encoder.situation.deviation, rtol=1e-3, atol=0)
    assert "encoder.situation.mean" in again.read_weights(tmp_path / "b")
