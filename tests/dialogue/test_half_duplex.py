"""A past that may be edited: what is remembered is what reading it all again would give."""

from __future__ import annotations

import gc
import time
import weakref
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from antiphon.codecs.mini.model import MiniCodec
from antiphon.dialogue.events import AudioEvent, EndEvent, Sampling, TextEvent
from antiphon.dialogue.half_duplex import (
    TOKENS_AHEAD,
    HalfDuplexBackend,
    HalfDuplexChat,
    HalfDuplexReply,
    Message,
    RecognizerListener,
    as_hearing,
)
from antiphon.dialogue.speculation import SpeculativeReply
from antiphon.errors import ModelError
from antiphon.model.half_duplex import HalfDuplexModel
from antiphon.models.asr.heard import Heard, Passage, SpokenWords
from antiphon.models.scene.reading import SceneNotes, SceneReading
from antiphon.models.scene.words import WordResiduals
from antiphon.models.tts.phonemes import Phonemizer
from antiphon.models.tts.synthesizer import Synthesizer
from tests.codecs.mini.test_model import TINY as TINY_CODEC
from tests.dialogue.pretended import CountingRecognizer, Hum, ScriptedThinker
from tests.models.llm.test_thinker import adapted, folder, thinker  # noqa: F401
from tests.models.tts.test_synthesizer import FRAME, PIECES, TEXT, two_voices, voice  # noqa: F401
from tests.models.tts.test_talker import talker  # noqa: F401

SHORT = Sampling(max_tokens=5)


@pytest.fixture
def model(adapted):  # noqa: F811
    return SimpleNamespace(thinker=adapted, synthesizer=Hum())


def fresh_chat(model) -> HalfDuplexChat:
    return HalfDuplexChat(model.thinker, model.synthesizer)


def answer_of(chat: HalfDuplexChat, past: list[Message], **how) -> Message:
    answer = chat.answer(past, SHORT, spoken=False, **how)
    assert isinstance(list(answer.events())[-1], EndEvent)
    return answer.message or Message("assistant", "")


def reads_the_same(chat: HalfDuplexChat, past: list[Message], **how) -> None:
    """The memory, after it has recalled a past, is that of one who never read anything else."""
    fresh = HalfDuplexChat(chat.thinker, chat.synthesizer)
    answers = [each.answer(past, SHORT, spoken=False, **how) for each in (chat, fresh)]
    for answer in answers:
        list(answer.events())
    mine, other = chat._state, fresh._state
    assert mine.cache.length == other.cache.length
    torch.testing.assert_close(
        mine.cache.buffer[..., : mine.cache.length, :],
        other.cache.buffer[..., : other.cache.length, :],
        rtol=1e-2,
        atol=1e-3,
    )
    assert answers[0].message.text == answers[1].message.text
    assert answers[0].usage.input == answers[1].usage.input and answers[0].usage.cached >= answers[1].usage.cached


def test_an_answer_is_that_of_an_ordinary_turn(model):
    state = model.thinker.init_state(voice=True)
    model.thinker.add_user(state, "hello there")
    wanted = "".join(thought.text for thought in model.thinker.stream(state, max_tokens=5))
    assert answer_of(fresh_chat(model), [Message("user", "hello there")]).text == wanted


def test_a_conversation_is_not_read_again(model):
    chat = fresh_chat(model)
    past = [Message("user", "hello")]
    past += [answer_of(chat, past), Message("user", "and then")]
    answer = chat.answer(past, SHORT, spoken=False)
    list(answer.events())
    state = model.thinker.init_state(voice=True)
    first = state.prefix
    assert answer.usage.cached > first  # the first turn and its answer
    fed = sum(map(len, chat._state.turns)) + chat._state.prefix
    assert chat._state.cache.length == fed


def test_an_answer_knows_from_where_those_before_it_began(model):
    chat, hello, more = fresh_chat(model), Message("user", "hello there"), Message("user", "tell me more")
    heard: list[torch.Tensor | None] = []
    begun = chat.begun
    chat.begun = lambda past, hidden: heard.append(begun(past, hidden)) or heard[-1]
    first = answer_of(chat, [hello])
    second = answer_of(chat, [hello, first, more])
    cut = replace(first, text=first.text[: len(first.text) // 2])
    answer_of(chat, [hello, cut, more, second, hello])  # what was heard of it; it had begun all the same
    assert [None if each is None else len(each) for each in heard] == [None, 1, 1]
    state = model.thinker.init_state(voice=True)
    model.thinker.add_user(state, hello.text)
    for each in heard[1:]:
        torch.testing.assert_close(each[0], state.hidden, rtol=1e-3, atol=1e-3)
    answer_of(chat, [more, first, hello])  # another conversation
    assert heard[-1] is None


def test_an_edited_past_is_as_if_it_had_always_been_so(model):
    chat = fresh_chat(model)
    one, two = Message("user", "hello"), Message("user", "and then")
    said = answer_of(chat, [one])
    answer_of(chat, [one, said, two])
    reads_the_same(chat, [one, Message("assistant", "hel"), two])  # cut to what was heard
    reads_the_same(chat, [one, two])  # the answer was deleted
    reads_the_same(chat, [one, said, Message("user", "something else")])


def test_a_broken_off_answer_is_remembered_as_far_as_it_went(model):
    chat, asked = fresh_chat(model), Message("user", "hello")
    answer = chat.answer([asked], Sampling(max_tokens=40), spoken=True)
    making = answer.events()
    for event in making:
        if isinstance(event, TextEvent):
            break
    making.close()
    assert answer.message is not None and answer.message.text == event.text
    reads_the_same(chat, [asked, answer.message, Message("user", "go on")])


def test_a_past_that_breaks_off_half_read_is_not_kept(model):
    chat = fresh_chat(model)
    first = answer_of(chat, [Message("user", "hello")])
    making = chat.answer([Message("user", "a"), Message("user", "b"), Message("user", "c")], SHORT).events()
    next(making), next(making)
    making.close()
    past = [Message("user", "hello"), first, Message("user", "x")]
    answer = chat.answer(past, SHORT, spoken=False)
    list(answer.events())
    fresh = fresh_chat(model).answer(past, SHORT, spoken=False)
    list(fresh.events())
    assert answer.message.text == fresh.message.text


def test_what_is_read_ahead_changes_nothing(model):
    chat, plain = fresh_chat(model), fresh_chat(model)
    first = Message("user", "hello there")
    for said in ("", "hell", "hello the", "help me", "hello"):  # the last words change
        list(chat.read_ahead([], said))
    said = answer_of(plain, [first])
    assert said.text == answer_of(chat, [first]).text
    chat.remember(chat._state, [first, said])  # the same answer
    past = [first, said, Message("user", "and then?")]
    list(chat.read_ahead(past[:2], "and"))
    list(chat.read_ahead(past[:2], "and then? What of it?"))  # more than was said in the end
    assert answer_of(chat, past).text == answer_of(plain, past).text
    list(chat.read_ahead(past[:1], "something else"))  # the past is edited
    past = [first, Message("assistant", "hello"), Message("user", "and now")]
    list(chat.read_ahead(past[:2], "and now"))
    reads_the_same(chat, past)


def test_of_a_draft_only_what_differs_is_read_again(model):
    thinker = model.thinker  # noqa: F811
    state = thinker.init_state(voice=True)
    whole = thinker.read_draft(state, "what is the capital of")
    assert thinker.read_draft(state, "what is the capital of") == 0
    assert 0 < thinker.draft_end(state) < 1
    assert 0 < thinker.read_draft(state, "what is the capital in France") < whole
    before = int(state.cache.length)
    thinker.add_user(state, "what is the capital in France now")
    other = thinker.init_state(voice=True)
    thinker.add_user(other, "what is the capital in France now")
    assert int(state.cache.length) == int(other.cache.length) > before
    torch.testing.assert_close(state.hidden, other.hidden, rtol=1e-3, atol=1e-4)
    assert thinker.read_draft(state, "too early") == 0  # a reply is due
    assert thinker.draft_end(state) == 0


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 6, 100])
def test_a_reply_that_was_dropped_leaves_no_trace(model, steps):
    chat, plain = fresh_chat(model), fresh_chat(model)
    first = Message("user", "hello there")
    said = answer_of(plain, [first])
    answer_of(chat, [first])
    chat.remember(chat._state, [first, said])  # the same answer
    past = [first, said]
    begun = SpeculativeReply(chat.answer([*past, Message("user", "and")], SHORT), past)
    for _ in range(steps):
        begun.step()
    begun.drop()
    past.append(Message("user", "and then we went home"))
    answer = chat.answer(past, SHORT, spoken=False)
    list(answer.events())
    assert answer.message.text == answer_of(plain, past).text
    if steps > 1:
        assert answer.usage.cached > chat.thinker.init_state(True).prefix  # the first turns weren't read again
    reads_the_same(chat, [first, Message("assistant", "hello"), Message("user", "so")])


def test_a_reply_begun_ahead_is_the_reply(model):
    asked = Message("user", "hello there")
    wanted = list(fresh_chat(model).answer([asked], SHORT).events())
    begun = SpeculativeReply(fresh_chat(model).answer([asked], SHORT), [asked], "how")
    assert [begun.step() for _ in range(3)] == [True] * 3
    assert begun.answers([asked], "how") and not begun.answers([asked], "else") and not begun.answers([], "how")
    assert not begun.answers([Message("user", "hello")], "how")
    given = [event for event in begun.events() if event is not None]
    assert [type(event) for event in given] == [type(event) for event in wanted if event is not None]
    assert given[-1] == wanted[-1] and begun.reply.message.text == wanted[-1].text


def test_what_fails_ahead_fails_where_the_reply_would_be(model):
    model.thinker.add_message, asked = lambda *_: 1 / 0, Message("user", "hello")
    try:
        begun = SpeculativeReply(fresh_chat(model).answer([asked], SHORT), [asked])
        while begun.step():
            pass
        with pytest.raises(ZeroDivisionError):
            list(begun.events())
    finally:
        del model.thinker.add_message


def test_what_was_heard_is_read_as_it_was_heard(model):
    embeddings = model.thinker.model.embed(torch.tensor(model.thinker.tokenizer.encode("hello").ids))
    typed, heard = Message("user", "hello"), Message("user", "hello", embeddings, heard=True)
    answer = fresh_chat(model).answer([heard], SHORT, spoken=False)
    list(answer.events())
    assert answer.message.text == answer_of(fresh_chat(model), [typed]).text
    assert 0 < answer.usage.heard < answer.usage.input


def test_instructions_are_the_system_prompt_and_marks_in_them_are_words(model):
    chat = fresh_chat(model)
    answer_of(chat, [Message("user", "hello")], instructions="Be kind<|im_end|>")
    expected = model.thinker.init_state(voice=True, system="Be kind")
    assert chat._state.prefix == expected.prefix
    reads_the_same(chat, [Message("user", "x")], instructions="Be kind")


def test_marks_in_a_message_are_no_marks(model):
    chat = fresh_chat(model)
    answer_of(chat, [Message("system", "x<|im_end|>y")])
    plain = fresh_chat(model)
    answer_of(plain, [Message("system", "xy")])
    assert chat._state.prefix + len(chat._state.turns[0]) == plain._state.prefix + len(plain._state.turns[0])


def test_a_long_past_is_forgotten_from_its_beginning_and_may_still_be_edited(model):
    chat, past = fresh_chat(model), []
    for number in range(30):
        past.append(Message("user", f"{number} " + "long " * 20))
        past.append(answer_of(chat, past))
    assert len(chat._state.turns) < len(past) and chat._state.cache.length < 2048
    past[-1] = Message("assistant", "cut")
    past.append(Message("user", "so"))
    answer_of(chat, past)
    assert chat._state.cache.length == chat._state.prefix + sum(map(len, chat._state.turns))
    del past[:-1]
    reads = chat.answer(past, SHORT, spoken=False)
    list(reads.events())
    fresh = fresh_chat(model).answer(past, SHORT, spoken=False)
    list(fresh.events())
    assert reads.message.text == fresh.message.text


def test_a_message_that_is_too_long_is_an_error_and_the_talk_goes_on(model):
    chat = fresh_chat(model)
    with pytest.raises(ModelError, match="at most"):
        answer_of(chat, [Message("user", "word " * 1000)])
    assert answer_of(chat, [Message("user", "hello")]).text


def test_an_answer_that_is_as_long_as_it_may_be_is_cut(model):
    answer = fresh_chat(model).answer([Message("user", "hello")], Sampling(max_tokens=2), spoken=False)
    list(answer.events())
    assert answer.cut and answer.usage.output == 3  # its end is a token too


def scripted(voice, sampling: Sampling | None = None, pace: float = 0.0, **how):  # noqa: F811
    """Who thinks the pieces, each for `pace` seconds, and an answer's events, to be made one by one."""
    mind = ScriptedThinker(PIECES, 6, pace)
    making = HalfDuplexChat(mind, voice).answer([Message("user", "hello")], sampling, **how).events()
    return mind, (event for event in making if event is not None)


def test_sound_starts_while_the_sentence_is_still_thought(voice):  # noqa: F811
    mind, events = scripted(voice, pace=0.2)
    next(event for event in events if isinstance(event, AudioEvent))
    assert mind.thought < len(PIECES)


def test_words_are_thought_while_others_are_said(voice):  # noqa: F811
    mind, events = scripted(voice)
    next(events)
    until = time.monotonic() + 5
    while mind.thought < TOKENS_AHEAD and time.monotonic() < until:
        time.sleep(0.01)
    assert mind.thought >= TOKENS_AHEAD  # though nobody has asked for a second event
    events.close()


def test_who_breaks_off_an_answer_knows_no_words_that_were_thought_ahead(model):
    chat, past = fresh_chat(model), [Message("user", "hello")]
    answer = chat.answer(past, Sampling(max_tokens=30))
    making = answer.events()
    next(event for event in making if isinstance(event, TextEvent))
    time.sleep(0.2)
    making.close()
    assert answer.message.text == answer.text and chat._read == past
    again = chat.answer(past, Sampling(max_tokens=30), spoken=False)
    list(again.events())
    fresh = fresh_chat(model).answer(past, Sampling(max_tokens=30), spoken=False)
    list(fresh.events())
    assert again.text == fresh.text and again.text.startswith(answer.text) and again.usage.cached > 0


def test_events_are_complete_and_in_order(voice):  # noqa: F811
    events = list(scripted(voice)[1])
    assert "".join(e.text for e in events if isinstance(e, TextEvent)) == "".join(PIECES)
    assert events[-1] == EndEvent("".join(PIECES))
    assert {e.audio.duration for e in events if isinstance(e, AudioEvent)} == {FRAME}


def test_the_same_seed_gives_the_same_sound(talker):  # noqa: F811
    audible = Synthesizer(talker, MiniCodec(TINY_CODEC).eval(), Phonemizer())

    def sound(seed: int) -> torch.Tensor:
        how = Sampling(seed=seed, temperature=1.0, top_k=0)
        return torch.cat([e.audio.samples for e in scripted(audible, how)[1] if isinstance(e, AudioEvent)])

    assert torch.equal(sound(1), sound(1))
    one, two = sound(1), sound(2)
    assert not torch.equal(one[: len(two)], two[: len(one)])


def test_a_written_answer_has_no_sound_and_respects_its_limit():
    events = list(scripted(None, Sampling(max_tokens=3), spoken=False)[1])
    assert [type(e) for e in events] == [TextEvent] * 3 + [EndEvent]
    assert events[-1].text == "".join(PIECES[:3])


def test_an_answer_to_nothing_ends_at_once(voice):  # noqa: F811
    assert list(scripted(voice, Sampling(max_tokens=0))[1])[-1] == EndEvent("")


def broken_off(voice, frames: int) -> HalfDuplexReply:  # noqa: F811
    """An answer of scripted words after so many frames of its sound."""
    answer = HalfDuplexChat(ScriptedThinker(PIECES, 6), voice).answer([Message("user", "hello")])
    answer.making = answer.events()  # kept, as an iterator that is thrown away is closed
    while frames and not isinstance(event := next(answer.making), EndEvent):
        frames -= isinstance(event, AudioEvent)
    return answer


def test_an_interrupted_answer_has_said_what_the_whole_one_would_have_by_then(voice):  # noqa: F811
    whole = broken_off(voice, 1000)
    assert whole.until(0.0) == "" and whole.until(1000.0) == TEXT
    for frames in range(1, 20, 3):
        answer = broken_off(voice, frames)
        assert answer.until(frames * FRAME) == whole.until(frames * FRAME) != answer.text


def test_a_finished_answer_keeps_its_words_and_their_times_alone(model):
    gc.disable()  # nothing may wait for it
    try:
        chat = fresh_chat(model)
        answer = chat.answer([Message("user", "hello")], SHORT)
        making = answer.events()
        next(event for event in making if isinstance(event, AudioEvent))
        state, speech = weakref.ref(making.gi_frame.f_locals["state"]), weakref.ref(answer._speech.state)
        del chat._state
        list(making)
        del making, chat, answer.chat
        assert speech() is None and state() is None
        assert answer.message.text == answer.text != ""
    finally:
        gc.enable()


@pytest.mark.slow
def test_the_real_model_hears_answers_and_forgets_what_was_not_played(mini, question):
    from antiphon.audio.io import Audio, load

    backend = mini.backend
    listener = backend.listen()
    for part in load(question, sample_rate=24000).samples.split(1920):
        listener.step(part)
    heard = listener.finish()
    assert "italy" in heard.text.lower()
    chat = backend.chat()
    answer = chat.answer([heard.message()])
    sound = [event.audio.samples for event in answer.events() if isinstance(event, AudioEvent)]
    assert "Rome" in answer.message.text and sum(map(len, sound)) > 24000
    said = [answer.until(seconds) for seconds in (0.0, 0.8, 1.4, 10.0)]
    assert said[0] == "" and said[-1] == answer.message.text
    assert all(answer.message.text.startswith(part) for part in said)
    assert len(said[1]) < len(said[2]) < len(said[3])
    aloud = torch.cat([audio.samples for audio in backend.say("Rome is the capital of Italy.")])
    assert mini.hear(Audio(aloud, 24000)).text.lower().startswith("rome is the capital")
    for frames in range(6, len(sound), 9):
        broken_off = backend.chat().answer([heard.message()])
        made, making = 0, broken_off.events()
        while made < frames:
            made += isinstance(next(making), AudioEvent)
        making.close()
        assert broken_off.until(frames * 0.08) == answer.until(frames * 0.08)


def test_notes_are_read_behind_the_words_and_a_draft_of_the_words_stays_read(model):
    thinker, notes = model.thinker, torch.randn(3, model.thinker.model.width)  # noqa: F811
    state, other = thinker.init_state(voice=True), thinker.init_state(voice=True)
    thinker.read_draft(state, "what is that")
    read = int(state.cache.length)
    thinker.add_message(state, "user", "what is that", notes)
    thinker.add_message(other, "user", "what is that")
    noted, plain = state.turns[-1], other.turns[-1]
    told = thinker.template.system  # a turn of their own
    torch.testing.assert_close(
        noted, torch.cat((plain, thinker._embed(told.before), notes, thinker._embed(told.after))), check_dtype=False
    )
    kept = state.draft[: read - state.prefix]
    assert torch.equal(noted[: len(kept)], kept)


def test_notes_are_remembered_with_their_message(model):
    chat, notes = fresh_chat(model), 3 * torch.randn(3, model.thinker.model.width)
    asked = Message("user", "hello there", notes=SceneNotes(notes))
    answer_of(chat, [asked])
    reads_the_same(chat, [asked, Message("assistant", "hello"), Message("user", "and then")])
    alone = fresh_chat(model)
    answer_of(alone, [Message("user", "hello there")])
    assert not torch.equal(chat._state.turns[0], alone._state.turns[0])
    told = model.thinker.template.system
    more = len(model.thinker._ids(told.before)) + 3 + len(model.thinker._ids(told.after))
    assert chat._state.turns[0].shape[0] == alone._state.turns[0].shape[0] + more


@pytest.mark.parametrize("drafted", ["", "what is", "what is that"])
def test_who_asks_in_a_plain_voice_is_told_as_if_it_had_been_known_before(model, drafted):
    told, states = torch.randn(3, model.thinker.model.width), []

    def asks(hidden: torch.Tensor) -> torch.Tensor:
        states.append(hidden.clone())
        return torch.ones(1)

    chat, before = fresh_chat(model), fresh_chat(model)
    if drafted:
        list(chat.read_ahead([], drafted))
    asked = Message("user", "what is that", notes=SceneNotes(None, told, asks))
    said = [answer_of(each, [one]) for each, one in ((chat, asked), (before, replace(asked, notes=SceneNotes(told))))]
    assert said[0].text == said[1].text and [len(turn) for turn in chat._state.turns] == [
        len(t) for t in before._state.turns
    ]
    assert chat._state.history == before._state.history
    wanted = model.thinker.draft_state(model.thinker.init_state(voice=True), "what is that")
    torch.testing.assert_close(states[0], wanted, rtol=1e-4, atol=1e-4)
    reads_the_same(chat, [asked, Message("assistant", "hello"), Message("user", "and then")])
    counted = [each.answer([one], SHORT, spoken=False) for each, one in ((fresh_chat(model), asked), (before, asked))]
    for each in counted:
        list(each.events())
    assert (
        counted[0].usage.input
        == counted[1].usage.input
        == counted[0].chat._state.prefix
        + sum(map(len, counted[0].chat._state.turns[:1]))
        + len(model.thinker._ids(model.thinker.template.reply))
    )
    quiet = replace(asked, notes=SceneNotes(None, told, lambda hidden: -torch.ones(1)))
    nothing = replace(asked, notes=None)
    assert answer_of(fresh_chat(model), [quiet]).text == answer_of(fresh_chat(model), [nothing]).text


def test_what_was_heard_without_words_is_read_with_the_next_turn(model):
    chat, notes = fresh_chat(model), torch.randn(3, model.thinker.model.width)
    past = [Message("user", "", notes=SceneNotes(notes), heard=True), Message("user", "what was that")]
    reads_the_same(chat, past)
    assert [len(turn) for turn in chat._state.turns[:1]] == [
        3 + len(model.thinker._ids(model.thinker.init_state(voice=True).first + model.thinker.template.user.after))
    ]


def test_how_words_were_said_is_added_to_the_words_and_to_nothing_else(model):
    mind, width = model.thinker, model.thinker.model.width
    residuals = WordResiduals(("What", "that?"), torch.stack([torch.ones(width), -torch.ones(width)]))
    state, other = mind.init_state(voice=True), mind.init_state(voice=True)
    mind.add_message(state, "user", "What is that?", residuals=residuals)
    mind.add_message(other, "user", "What is that?")
    added = state.turns[-1] - other.turns[-1]
    begin = len(mind._ids(state.first))  # then a token a letter
    wanted = torch.zeros(len(added))
    wanted[begin : begin + 4], wanted[begin + 8 : begin + 12] = 1, -1
    torch.testing.assert_close(added, wanted[:, None].expand_as(added), atol=1e-5, rtol=0)


def test_words_to_which_nothing_is_added_are_read_bit_for_bit_as_before(model):
    zero = WordResiduals(("hello", "there"), torch.zeros(2, model.thinker.model.width))
    plain, added, changed = fresh_chat(model), fresh_chat(model), fresh_chat(model)
    said = Message("user", "hello there", notes=SceneNotes(torch.randn(3, model.thinker.model.width)))
    loud = replace(said, residuals=replace(zero, values=zero.values + 3))
    answers = [
        answer_of(chat, [one]).text
        for chat, one in ((plain, said), (added, replace(said, residuals=zero)), (changed, loud))
    ]
    assert answers[0] == answers[1] and torch.equal(plain._state.cache.buffer, added._state.cache.buffer)
    assert not torch.equal(plain._state.turns[0], changed._state.turns[0])
    reads_the_same(changed, [loud, Message("assistant", "hello"), Message("user", "and then")])


def test_words_as_they_were_said_tell_whether_they_ask(model):
    width, states = model.thinker.model.width, []

    def asks(hidden: torch.Tensor) -> torch.Tensor:
        states.append(hidden.clone())
        return torch.ones(1)

    residuals = WordResiduals(("what", "is", "that"), torch.randn(3, width))
    for noteworthy in (None, torch.randn(2, width)):
        told = torch.randn(3, width)
        asked = Message("user", "what is that", notes=SceneNotes(noteworthy, told, asks), residuals=residuals)
        known = replace(asked, notes=SceneNotes(told))
        chat, before = fresh_chat(model), fresh_chat(model)
        assert answer_of(chat, [asked]).text == answer_of(before, [known]).text
        torch.testing.assert_close(chat._state.turns[0], before._state.turns[0])
        state = model.thinker.init_state(voice=True)
        wanted = model.thinker.draft_state(state, "what is that", residuals)
        torch.testing.assert_close(states.pop(), wanted, rtol=1e-4, atol=1e-4)


def test_words_are_heard_with_how_they_were_said_where_the_reading_has_learnt_it(model):
    mind, asked = model.thinker, []
    ears = SimpleNamespace(init_state=lambda options: asked.append(options) or SimpleNamespace())
    spoken = SpokenWords(("hello",), torch.randn(1, 8))
    heard = Heard("hello", passages=(Passage("hello", spoken=spoken),))
    for words in (0, 4):
        reading = SceneReading(mind.model.embed, mind.tokenizer, mind.model.width, words=words)
        RecognizerListener(ears, 24000, reading=reading)
        message = as_hearing(heard, reading).message()
        assert (message.residuals is not None) == bool(words)
    assert message.residuals.texts == ("hello",) and not message.residuals.values.any()
    assert asked[0] is None and asked[1].states
    assert as_hearing(heard).message().residuals is None


def test_the_voice_that_is_asked_for_says_and_answers():
    scripted = ScriptedThinker([*PIECES], width=6)
    scripted.model = SimpleNamespace(width=6)
    model = HalfDuplexModel(CountingRecognizer(), scripted, (voices := two_voices()).talker, voices.codec)
    backend = model.backend
    assert list(backend.voices) == ["anna", "bert"]
    assert list(HalfDuplexBackend(None, scripted, Hum()).voices) == ["heart"]
    said, answered = {}, {}
    for name in (None, *backend.voices):
        how = Sampling(max_tokens=20, voice=name)
        said[name] = len(list(backend.say(TEXT, how)))
        events = list(backend.chat().answer([Message("user", "bread")], how).events())
        answered[name] = sum(isinstance(event, AudioEvent) for event in events)
        assert model.say(TEXT, voice=name).duration == pytest.approx(said[name] * FRAME)
    for frames in (said, answered):
        assert frames["anna"] == frames[None] != frames["bert"]
