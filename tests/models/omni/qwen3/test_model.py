"""The whole model: what `transformers` writes and says; and it goes on, is left and is cut as a conversation is."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from antiphon.errors import ModelError
from antiphon.models.llm.sampling import TokenSampling
from antiphon.models.omni import weights
from antiphon.models.omni.model import ReplySettings, Spoken, Written
from antiphon.models.omni.thinker import Heard, Words, batched
from antiphon.nn.state import fork
from tests.models.omni.qwen3.tiny import (
    ASSISTANT,
    END,
    LINE,
    START,
    USER,
    conversation,
    inputs,
    theirs,
    turn,
)
from tests.models.omni.qwen3.tiny import ours as ours_alone

GREEDY = ReplySettings(max_tokens=12, max_codes=20, ends=(END,), speaking=TokenSampling(repetition=1.05))
REPLY = Words(torch.tensor([START, ASSISTANT, LINE]))


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    model = theirs()
    folder = tmp_path_factory.mktemp("omni")
    model.save_pretrained(folder)
    return weights.load(folder), model


@pytest.fixture(scope="module")
def endless():
    """A model that never ends by itself."""
    model = ours_alone()
    model.talker.lm.lm_head.weight.data[model.config.talker.tokens.codec_eos_token_id] = 0
    return model


def check_logits(pair, seed: int) -> None:
    ours, model = pair
    parts, own_sound = conversation(seed)
    read = ours.thinker.read(parts)
    hidden = ours.thinker(*batched([read]))
    wanted = model.thinker(**inputs(model, parts, own_sound)).logits
    assert wanted.abs().max() > 0.5
    assert (ours.thinker.logits(hidden) - wanted).abs().max() < 1e-4, seed


def check_reply(pair, seed: int) -> None:
    """Text, codes and the scores of those; the codes that `transformers` said are caught on their way to the sound.
    `generate` tells the thinker that videos are heard, too, and has to be made to tell the talker."""
    ours, model = pair
    parts, own_sound = conversation(seed)
    caught, scores, wanted = [], [], []
    given = inputs(model, parts, own_sound)
    given = {f"thinker_{key}" if key.startswith("pixel") else key: value for key, value in given.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model.code2wav, "chunked_decode", lambda codes, **how: caught.append(codes) or torch.zeros(1))
        head = model.talker.codec_head.register_forward_hook(lambda module, x, y: wanted.append(y[0, -1]))
        sequences, _ = model.generate(
            **given, talker_use_audio_in_video=own_sound, speaker="anna", thinker_max_new_tokens=12,
            thinker_do_sample=False, thinker_eos_token_id=END, talker_do_sample=False, talker_max_new_tokens=21,
        )  # fmt: skip
        head.remove()
    state = ours.init_state()
    ours.read(state, parts)
    written = sequences[0, int(state.thinker.length) :].tolist()
    head = ours.talker.lm.lm_head.register_forward_hook(lambda module, x, y: scores.append(y[0].clone()))
    events = list(ours.reply(state, "anna", GREEDY))
    head.remove()
    assert [event.token for event in events if isinstance(event, Written)] == written, seed
    assert [list(frame) for frame in state.codes] == caught[0][0].T.tolist(), seed
    assert (torch.stack(scores) - torch.stack(wanted[: len(scores)])).abs().max() < 1e-4, seed


@torch.no_grad()
def test_thinker_reads_mixes_as_transformers_does(pair):
    for seed in range(12):
        check_logits(pair, seed)


@pytest.mark.filterwarnings("ignore")
def test_text_and_codes_are_those_of_transformers(pair):
    for seed in (0, 3, 5, 6, 9, 10):
        check_reply(pair, seed)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_text_and_codes_of_fifty_mixes_are_those_of_transformers(pair):
    for seed in range(50, 100):
        check_reply(pair, seed)


@torch.no_grad()
def test_rows_of_a_batch_are_read_as_alone(pair):
    ours, _ = pair
    reads = [ours.thinker.read(conversation(seed)[0]) for seed in (2, 6, 9, 10)]
    hidden = ours.thinker(*batched(reads))
    for row, read in enumerate(reads):
        alone = ours.thinker(*batched([read]))[0]
        assert torch.allclose(hidden[row, : len(alone)], alone, atol=1e-4)


@torch.no_grad()
def test_sound_comes_before_the_text_is_done_and_is_that_of_all_codes(endless):
    state = endless.init_state()
    endless.read(state, conversation(0)[0])
    events = list(endless.reply(state, "anna", replace(GREEDY, max_tokens=60, max_codes=90, ends=())))
    sounds = [number for number, event in enumerate(events) if isinstance(event, Spoken)]
    assert sum(isinstance(event, Written) for event in events[: sounds[0]]) == 1  # one token, one frame
    assert events[sounds[0]].codes == 1 and len(state.codes) == 90
    sound = torch.cat([event.samples for event in events if isinstance(event, Spoken)])
    whole = endless.token2wav(torch.tensor(state.codes).T[None])[0]
    assert sound.shape == whole.shape and endless.sample_rate == 600
    assert (sound - whole).abs().max() < 1e-4 and whole.abs().mean() > 0.1
    again = endless.init_state()
    endless.read(again, conversation(0)[0])
    later = list(endless.reply(again, "anna", replace(GREEDY, max_tokens=60, max_codes=90, ends=(), ahead=None)))
    waited = [event.samples for event in later if isinstance(event, Spoken)]
    assert len(waited) == 1 and (waited[0] - whole).abs().max() < 1e-4


def test_a_conversation_goes_on_as_if_it_was_read_at_once(pair):
    ours, _ = pair
    (first, _), (second, _) = conversation(10), conversation(3)
    state, end = ours.init_state(), Words(torch.tensor([END, LINE]))
    ours.read(state, first)
    list(ours.reply(state, "anna", GREEDY))
    said = state.reply
    ours.read(state, [Words(torch.tensor(said[-1:])), end, *second])
    fresh = ours.init_state()
    ours.read(fresh, [*first, Words(torch.tensor(said)), end, *second])
    assert torch.allclose(state.hidden, fresh.hidden, atol=1e-4) and state.last == fresh.last
    for each in (state, fresh):
        list(ours.reply(each, "anna", GREEDY))
    assert state.reply == fresh.reply and state.codes == fresh.codes and len(state.codes) == 20


def test_who_speaks_is_told_however_the_marks_come(pair):
    """A mark may be the last of what is read at once."""
    ours, _ = pair
    parts, _ = conversation(5)
    whole, single = ours.init_state(), ours.init_state()
    ours.read(whole, parts)
    for part in parts:
        pieces = [Words(token[None]) for token in part.tokens] if isinstance(part, Words) else [part]
        for piece in pieces:
            ours.read(single, [piece])
    assert torch.allclose(single.unread[0], whole.unread[0], atol=1e-3)
    assert torch.allclose(single.unread[1], whole.unread[1]) and torch.equal(single.said, whole.said)
    assert (single.role, single.place, single.top) == (ASSISTANT, whole.place, whole.top)


@pytest.mark.parametrize("size", [37, 200, 999])
def test_a_sound_that_is_heard_live_is_what_it_is_whole(pair, size):
    ours, _ = pair
    mel = torch.randn(128, 523)
    before, after = Words(torch.tensor([START, USER, LINE])), Words(torch.tensor([END, LINE]))
    live, whole = ours.init_state(), ours.init_state()
    ours.read(live, [before])
    for first in range(0, 523, size):
        ours.listen(live, mel[:, first : first + size], last=first + size >= 523)
    ours.read(live, [after])
    ours.read(whole, [before, Heard(mel), after])
    assert torch.allclose(live.hidden, whole.hidden, atol=1e-4)
    assert torch.allclose(live.unread[0], whole.unread[0], atol=1e-4)
    assert torch.equal(live.unread[1], whole.unread[1]) and live.last == whole.last


def test_a_reply_that_is_left_is_remembered_as_far_as_it_was_heard(endless):
    (first, _), (second, _) = conversation(10), conversation(3)
    state, end = endless.init_state(), Words(torch.tensor([END, LINE]))
    endless.read(state, first)
    stream = endless.reply(state, "anna", replace(GREEDY, ends=()))
    for _ in range(9):
        next(stream)
    stream.close()
    endless.cut(state, 3)
    said = list(state.reply)
    assert len(said) == 3 and len(state.said) == 6
    endless.read(state, [end, *second])
    fresh = endless.init_state()
    endless.read(fresh, [*first, Words(torch.tensor(said)), end, *second])
    assert torch.allclose(state.hidden, fresh.hidden, atol=1e-4)
    for each in (state, fresh):
        list(endless.reply(each, "anna", GREEDY))
    assert state.codes == fresh.codes


def test_a_conversation_goes_back_to_a_mark(pair):
    """Whether the talker has read on or not."""
    ours, _ = pair
    (first, _), (second, _) = conversation(10), conversation(3)
    state = ours.init_state()
    ours.read(state, first[:-1])
    mark = ours.mark(state)
    for spoken in (None, "bert"):
        ours.read(state, [*turn(ASSISTANT, []), *second])
        list(ours.reply(state, spoken, GREEDY))
        ours.rewind(state, mark)
        assert int(state.thinker.length) == mark.length and state.hidden is None
    fresh = ours.init_state()
    ours.read(fresh, first)
    ours.read(state, [REPLY])
    for each in (state, fresh):
        list(ours.reply(each, "anna", GREEDY))
    assert state.reply == fresh.reply and state.codes == fresh.codes


def test_a_copy_of_a_conversation_goes_its_own_way(pair):
    ours, _ = pair
    state = ours.init_state()
    ours.read(state, conversation(10)[0])
    copy = fork(state)
    list(ours.reply(state, "anna", GREEDY))
    list(ours.reply(copy, "anna", GREEDY))
    assert copy.codes == state.codes and copy.reply == state.reply


def test_a_reply_whose_first_words_are_given_says_those_too(pair):
    ours, _ = pair
    parts, _ = conversation(10)
    given = torch.tensor([7, 8, 9])
    begun, scripted = ours.init_state(), ours.init_state()
    ours.read(begun, [*parts, Words(given)])
    list(ours.reply(begun, "anna", replace(GREEDY, max_tokens=6)))
    ours.read(scripted, parts)
    script = (*given.tolist(), *[token for token in begun.reply if token != END])
    list(ours.reply(scripted, "anna", replace(GREEDY, script=script[: 3 + 5])))
    assert begun.codes[:6] == scripted.codes[:6]


def test_draws_follow_from_the_seed(endless):
    said = []
    for seed in (1, 1, 2):
        state = endless.init_state()
        endless.read(state, conversation(10)[0])
        settings = replace(GREEDY, max_codes=8, speaking=replace(endless.speaking, seed=seed))
        list(endless.reply(state, "anna", settings))
        said.append(state.codes)
    assert said[0] == said[1] != said[2]


def test_what_cannot_be_said_is_refused(pair):
    ours, _ = pair
    state = ours.init_state()
    with pytest.raises(ModelError, match="no reply is due"):
        next(ours.reply(state, "anna", GREEDY))
    ours.read(state, turn(USER, [Words(torch.arange(4))]))
    with pytest.raises(ModelError, match="no turn of the assistant has begun"):
        next(ours.reply(state, "anna", GREEDY))
    assert list(ours.reply(state, None, GREEDY))
    with pytest.raises(ModelError, match="no voice 'carl'; there are: anna, bert"):
        next(ours.reply(state, "carl", GREEDY))
