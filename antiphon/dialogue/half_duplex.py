"""A conversation in turns whose past can be edited: the one loop that hears, thinks and speaks in turns.

The past is a list of messages, owned by the caller, and an answer is a function of it. `HalfDuplexChat` keeps the
language model's state from one answer to the next: as far as the list still begins with what was read before, nothing
is read again, and a message that was deleted, or cut to what the listener really heard, is gone from the model's memory
as well.

    backend = HalfDuplexBackend(recognizer, thinker, synthesizer)
    listener = backend.listen()
    listener.step(samples)                             # 24 kHz, as they come
    asked = listener.finish().message()
    answer = backend.chat().answer([asked])
    for event in answer.events(): ...                  # TextEvent, AudioEvent, EndEvent
    past = [asked, answer.message]                     # or answer.until(1.2): what was said in the first 1.2 s

What is done here is done in small steps, on the caller's thread: a server takes the steps of many conversations in
turn, a `TurnSession` has a thread for one. The thinker alone goes on by itself, some tokens ahead of the voice
(`antiphon.dialogue.ahead`). The next 80 ms are made as soon as the text allows it, so sound starts while the sentence
is still being thought.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import soxr
import torch
from torch import Tensor

from antiphon.audio.io import Audio
from antiphon.dialogue.ahead import Ahead
from antiphon.dialogue.backend import HEARING_RATE, MAX_PROMPT_CHARACTERS, MAX_PROMPT_TOKENS, Hearing, Usage
from antiphon.dialogue.events import AudioEvent, CallEvent, EndEvent, Event, Sampling, TextChances, TextEvent
from antiphon.dialogue.tool_calls import Call, Calling, Functions, Message, RepeatedCall, joined, rendered, unmarked
from antiphon.errors import ToolCallError
from antiphon.models.asr.heard import ENGLISH, Heard, HearingOptions, Likelihoods, Passage
from antiphon.models.llm.detokenizer import token_bytes
from antiphon.models.llm.likelihood import likelier, said_likelihoods
from antiphon.models.llm.sampling import TokenChances
from antiphon.models.tts.synthesizer import SpokenText

if TYPE_CHECKING:
    from antiphon.models.asr.recognizer import Recognizer
    from antiphon.models.llm.thinker import GeneratedToken, Thinker
    from antiphon.models.llm.thinker_state import ThinkerState
    from antiphon.models.scene.hearing import SceneHearing
    from antiphon.models.scene.reading import SceneReading
    from antiphon.models.tts.synthesizer import Synthesizer

VOICE = "heart"  # what a voice without a name is called
TOKENS_AHEAD = 12  # that are thought and not said yet, at most: who is interrupted has thought them in vain
# What stands before a sentence: which of the two makes it likelier tells to whom it was said.
TO_ASSISTANT = 'A person says to a voice assistant: "'
TO_PERSON = 'A person says to somebody else in the room: "'
# Likewise what it is meant for: of the pairs that were tried on ten short orders and ten signs of listening the best.
INTERRUPTING = 'The assistant was still talking, but the user interrupted: "'
MOST_BEGUN = 8  # answers before this one, of which it is known from where they began
LISTENING = 'The assistant was talking, and the user just nodded along: "'


class HalfDuplexBackend:
    """A model that takes turns, as a `Backend`. Conversations share its weights, and on several threads their steps.

    Args:
        recognizer: hears.
        thinker: thinks.
        synthesizer: speaks.
        name: what it is called.
        scenes: hears what else is to be heard, and how the words are said; None: the words alone are heard.
        reading: has the thinker read that.
    """

    sees, writes_down, structured, shares_steps = False, True, True, True

    def __init__(
        self,
        recognizer: Recognizer,
        thinker: Thinker,
        synthesizer: Synthesizer,
        name: str = "mini",
        scenes: SceneHearing | None = None,
        reading: SceneReading | None = None,
    ):
        self.recognizer, self.thinker, self.synthesizer, self.name = recognizer, thinker, synthesizer, name
        self.scenes, self.reading = scenes, reading
        self.sample_rate: int = synthesizer.sample_rate
        self.voices: Sequence[str] = synthesizer.voices or (VOICE,)
        self.calls_functions = thinker.template.call_form is not None

    @property
    def languages(self) -> Collection[str]:
        return self.recognizer.languages or (ENGLISH,)

    def listen(self, options: HearingOptions | None = None, live: bool = True) -> RecognizerListener:
        scenes, reading = (self.scenes, self.reading) if live else (None, None)  # written down, it is words alone
        return RecognizerListener(self.recognizer, self.sample_rate, options, live, scenes, reading)

    def hear(self, sound: Audio | Iterable[Tensor], options: HearingOptions | None = None, scene: bool = True) -> Heard:
        """What is heard in a recording.

        Args:
            sound: of any sample rate, mono or not; or as it is read, in pieces [n] at 16 kHz, of any length.
            options: how words are heard.
            scene: hear what else is to be heard, where the model can.
        """
        scenes, options = self.scenes if scene else None, for_reading(options, self.reading if scene else None)
        if scenes is None:
            return self.recognizer.hear(sound, options)
        state = scenes.init_state()

        def passed() -> Iterator[Tensor]:
            whole = [sound.mono().resample(HEARING_RATE).samples.float()] if isinstance(sound, Audio) else sound
            for piece in whole:
                scenes.step(piece, state)
                yield piece

        heard = self.recognizer.hear(passed(), options)
        return replace(heard, scene=scenes.finish(state))

    def heard(self, audio: Audio, options: HearingOptions | None = None) -> Hearing:
        """A whole turn, as it is answered."""
        return as_hearing(self.hear(audio, options), self.reading)

    def chat(self, assistant: bool = True) -> HalfDuplexChat:
        return HalfDuplexChat(self.thinker, self.synthesizer, assistant)

    def say(self, text: str, sampling: Sampling | None = None) -> Iterator[Audio]:
        """Reads a text aloud, 80 ms at a time.

        Raises:
            UnsayableError: nothing of it can be said.
        """
        how = sampling or Sampling()
        for samples in self.synthesizer.say(text, how.seed, how.temperature, how.top_k, how.voice):
            yield Audio(samples, self.sample_rate)


def as_hearing(heard: Heard, reading: SceneReading | None = None) -> Hearing:
    """What a recognizer heard, with what the language model may be told of it."""
    notes = reading.read(heard.scene) if reading is not None else None
    residuals = reading.words.read(heard.passages) if reading is not None and reading.words is not None else None
    text = heard.text.strip()
    return Hearing(text, heard.embeddings, heard.language, heard.passages, heard.scene, notes, residuals)


def for_reading(options: HearingOptions | None, reading: SceneReading | None) -> HearingOptions | None:
    """How a turn is heard whose words are read with how they were said, where a reading does."""
    if reading is None or reading.words is None:
        return options
    return replace(options or HearingOptions(), states=True)


class RecognizerListener:
    """A recognizer, and beside it what hears more than words, with a resampler before them.

    Args:
        recognizer: hears the words.
        sample_rate: of what it is given, Hz.
        options: how it hears; None for words alone, in whatever language.
        live: somebody waits for the end, so work is done before it.
        scenes, reading: see `HalfDuplexBackend`.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        sample_rate: int,
        options: HearingOptions | None = None,
        live: bool = True,
        scenes: SceneHearing | None = None,
        reading: SceneReading | None = None,
    ):
        self.recognizer, self.live = recognizer, live
        self.state = recognizer.init_state(for_reading(options, reading))
        self.scenes, self.reading = scenes, reading
        self.scene = scenes.init_state() if scenes is not None else None
        self.resampler = soxr.ResampleStream(sample_rate, HEARING_RATE, 1, dtype="float32")

    def step(self, samples: Tensor) -> None:
        self._take(self._resampled(samples.numpy()))

    def draft(self) -> str:
        return self.recognizer.draft(self.state)

    def peek(self) -> Hearing:
        heard = self.recognizer.finish(self.state)
        if self.scenes is not None and self.scene is not None:
            heard = replace(heard, scene=self.scenes.finish(self.scene))
        return as_hearing(heard, self.reading)

    def passages(self) -> Sequence[Passage]:
        return self.state.passages

    def finish(self) -> Hearing:
        self._take(self._resampled(np.zeros(0, np.float32), last=True))
        return self.peek()

    def _take(self, samples: Tensor) -> None:
        self.recognizer.step(samples, self.state, ahead=self.live)
        if self.scenes is not None and self.scene is not None:
            self.scenes.step(samples, self.scene)

    def _resampled(self, samples: np.ndarray, last: bool = False) -> Tensor:
        return torch.from_numpy(self.resampler.resample_chunk(samples, last=last))


class HalfDuplexChat:
    """One conversation's memory. Not for two answers at once.

    Args:
        thinker: thinks.
        synthesizer: speaks.
        assistant: the voice assistant thinks, also where it writes; False: the plain language model.
    """

    def __init__(self, thinker: Thinker, synthesizer: Synthesizer, assistant: bool = True):
        self.thinker, self.synthesizer, self.assistant = thinker, synthesizer, assistant
        self._state: ThinkerState | None = None
        self._key: tuple[str | None, str] = (None, "")
        self._read: list[Message] = []
        self._begun: dict[int, Tensor] = {}  # by the place of an answer in the past

    def answer(
        self,
        past: Sequence[Message],
        sampling: Sampling | None = None,
        instructions: str | None = None,
        spoken: bool = True,
        functions: Functions | None = None,
    ) -> HalfDuplexReply:
        """The answer to a past; it is made while one iterates over its events.

        Args:
            past: oldest first. Messages of nothing are passed over.
            sampling: how it is drawn.
            instructions: the system prompt; None or "" for the model's own.
            spoken: aloud, or in writing.
            functions: that it may call.

        Raises:
            ToolCallError: the model can't call functions.

        Raises (from `events`):
            ModelError: a message is longer than can be understood.
            ToolCallError: a call of the answer can't be read.
        """
        kept, calling = self._readable(past, functions)
        return HalfDuplexReply(self, kept, sampling or Sampling(), instructions or None, spoken, calling)

    def read_ahead(
        self, past: Sequence[Message], said: str, instructions: str | None = None, functions: Functions | None = None
    ) -> Iterator[None]:
        """See `ChatSession.read_ahead`: reads the past, and the beginning of the message that is still being said.

        Raises:
            ToolCallError: the model can't call functions.
        """
        kept, calling = self._readable(past, functions)
        state = yield from self._brought(kept, instructions or None, Usage(), calling)
        self._state = None
        self.thinker.read_draft(state, unmarked(said))
        self.remember(state, kept)

    def sounds_over(self) -> float:
        """See `ChatSession.sounds_over`; as the language model expects it from the words."""
        return 0.0 if self._state is None else self.thinker.draft_end(self._state)

    @property
    def likelihoods(self) -> Likelihoods | None:
        """See `ChatSession.likelihoods`; adapters read words without the capitals and marks that these tell apart."""
        return None if self.thinker.lora is not None else self._likelihoods

    def _likelihoods(self, texts: Sequence[str]) -> list[tuple[float, int]]:
        state, self._state = self._state, None  # as in `_brought`
        found = said_likelihoods(self.thinker, texts, state)
        self._state = state
        return found

    def addressed(self, said: str) -> float:
        """See `ChatSession.addressed`."""
        return likelier(self.thinker, said, TO_ASSISTANT, TO_PERSON)

    def interrupts(self, said: str) -> float:
        """See `ChatSession.interrupts`."""
        return likelier(self.thinker, f'{said}"', INTERRUPTING, LISTENING)

    def _readable(self, past: Sequence[Message], functions: Functions | None) -> tuple[list[Message], Calling | None]:
        """The messages as the language model reads them, and how it may call functions."""
        kept = joined([message for message in past if message.is_something])
        form = self.thinker.template.call_form
        if form is None and (functions is not None or any(message.calls or message.results for message in kept)):
            raise ToolCallError("This model can't call functions: its chat template doesn't take them.")
        if form is None or functions is None:
            return kept, None
        asked = max((at for at, message in enumerate(kept) if message.role == "user"), default=0)
        return kept, Calling(form, functions, [call for message in kept[asked:] for call in message.calls])

    def recall(
        self, past: Sequence[Message], instructions: str | None, usage: Usage, calling: Calling | None = None
    ) -> Iterator[ThinkerState | None]:
        """Brings the memory to `past` and makes a reply due: a step for each message read (None), then the state."""
        state = yield from self._brought(past, instructions, usage, calling)
        self._state = None
        if calling is not None and calling.choices and past and past[-1].role == "user":
            options = [f'{one}"' for one in calling.choices]
            likely = self.thinker.likelihoods(state, calling.form.beginning(), options)
            calling.choose(likely, first=all(message.role != "assistant" for message in past))
            self.remember(state, past)
            yield None
            self._state = None
        begins = calling.begins if calling is not None else ""
        self.thinker.begin_reply(state, begins)
        if past and (told := _told_after_all(past[-1], state)) is not None:
            yield None
            alone = len(state.turns[-2])
            self.thinker.add_notes(state, unmarked(past[-1].text), told, begins, past[-1].residuals)
            usage.input += len(state.turns[-2]) - alone
            usage.heard += len(state.turns[-2]) - alone
        usage.input += len(state.turns[-1])
        yield state

    def _brought(
        self, past: Sequence[Message], instructions: str | None, usage: Usage, calling: Calling | None
    ) -> Generator[None, None, ThinkerState]:
        """Brings the memory to `past`, a step for each message, and gives the state; between the steps what is read by
        then is remembered."""
        thinker = self.thinker
        shown = unmarked(list(calling.shown if calling is not None else ()))
        if instructions is not None:
            words = thinker.tokenizer.encode(unmarked(instructions[:MAX_PROMPT_CHARACTERS])).ids[:MAX_PROMPT_TOKENS]
            instructions = thinker.tokenizer.decode(words)
        key = (instructions, json.dumps(shown))
        same = 0
        if self._state is not None and key == self._key:
            while same < min(len(past), len(self._read)) and past[same].same(self._read[same]):
                same += 1
        # From where an answer began stays true where it was cut: that depends on what was before it alone.
        answers = {at for at, message in enumerate(past) if message.role == "assistant"}
        self._begun = {at: hidden for at, hidden in self._begun.items() if at <= same and at in answers}
        state, self._state = self._state, None  # whatever breaks off from here on leaves nothing half-read behind
        if state is None or key != self._key or same < len(self._read) - len(state.turns):
            state, same, self._read = thinker.init_state(self.assistant, instructions, shown), 0, []
        forgotten = len(self._read) - len(state.turns)
        thinker.rewind(state, same - forgotten)
        for message, turn in zip(past[forgotten:same], state.turns):
            usage.heard_cached += len(turn) if message.heard else 0
        usage.cached = usage.input = state.prefix + sum(map(len, state.turns))
        usage.heard = usage.heard_cached
        self._key = key
        self.remember(state, past[:same])
        yield None
        for at, message in enumerate(past[same:], same):
            self._state = None
            if message.calls or message.results:
                before = [past[at - 1]] if at and past[at - 1].calls else []
                turns = [[one for each in part for one in rendered(each)] for part in (before, [message])]
                written = thinker.template.between(*turns)
                thinker.add_rendered(state, message.role, written)
            else:
                said = unmarked(message.text) if message.embeddings is None else message.embeddings
                notes = None
                # Of the last one it is found out with what begins the reply: see `_told_after_all`.
                if message.notes is not None and (message.notes.noteworthy is not None or at + 1 < len(past)):
                    asked = said if isinstance(said, str) and message.notes.asks is not None else ""
                    hidden = thinker.draft_state(state, asked, message.residuals) if asked else None
                    notes = message.notes.behind(hidden)
                thinker.add_message(state, message.role, said, notes, message.residuals)
            usage.input += len(state.turns[-1])
            usage.heard += len(state.turns[-1]) if message.heard else 0
            self.remember(state, past[: at + 1])
            yield None
        return state

    def begun(self, past: Sequence[Message], hidden: Tensor | None) -> Tensor | None:
        """Notes the state from which the answer to a past begins, [hidden]; gives those from which the answers in it
        began, as far as this chat made them, [answers, hidden], or None."""
        earlier = [self._begun[at] for at in sorted(self._begun) if at < len(past)][-MOST_BEGUN:]
        if hidden is not None:
            self._begun[len(past)] = hidden
        return torch.stack(earlier) if earlier else None

    def remember(self, state: ThinkerState, past: Sequence[Message]) -> None:
        """Keeps the state that has read `past`."""
        self._state, self._read = state, list(past)


def _told_after_all(message: Message, state: ThinkerState) -> Tensor | None:
    """What is told of a scene in which nothing is noteworthy, where the words ask about it: few do, so they are read
    together with what begins the reply, and read again if they do."""
    if message.notes is None or message.notes.noteworthy is not None or not message.text:
        return None
    return message.notes.behind(state.words_hidden)


@dataclass
class HalfDuplexReply:
    """An answer while it is made.

    Attributes:
        usage: tokens, complete at the end.
        message: what was answered, to be put into the past; None before there is anything.
        cut: it ended because it was as long as it may be.
        text: what was thought so far.
    """

    chat: HalfDuplexChat
    past: list[Message]
    sampling: Sampling
    instructions: str | None
    spoken: bool
    calling: Calling | None = None
    usage: Usage = field(default_factory=Usage)
    message: Message | None = None
    cut: bool = False
    text: str = ""
    _chances: list[TextChances] = field(default_factory=list)  # of tokens that have given no text yet
    _called: list[Call] = field(default_factory=list)  # as far as it was told
    _speech: SpokenText | None = None

    def events(self) -> Generator[Event | None, None, None]:
        """Text and sound in the order in which they are ready, then the end; None where only work was done."""
        state = None
        for state in self.chat.recall(self.past, self.instructions, self.usage, self.calling):
            if state is None:
                yield None
        assert state is not None
        earlier = self.chat.begun(self.past, state.hidden)
        asked, done, dropped = len(state.turns[-1]), False, False
        source = self._thoughts(state)
        unsaid: int | None = 0
        thoughts = Ahead(source, TOKENS_AHEAD) if self.spoken else source
        try:
            for event in self._spoken(thoughts, earlier) if self.spoken else map(self._said, thoughts):
                self.usage.output += isinstance(event, TextEvent)
                yield event
            done = True
        except GeneratorExit:
            dropped = True
            raise
        finally:
            if isinstance(thoughts, Ahead):
                unsaid = thoughts.close()
            if unsaid is not None:
                source.close()  # reads the end of what was thought so far, on this thread
            output = len(state.turns[-1]) - asked - 1  # its end, but no newline
            calls = tuple(self._called)
            if self.text.strip() or calls:
                self.message = Message("assistant", self.text, calls=calls)
            if unsaid is not None:  # else another thread is at the state yet, so that nobody is to read it again
                self._remember(state, all_got=not unsaid and not (dropped and self.message is None))
            self.usage.output = max(self.usage.output, output)
            self.cut = done and self.usage.output > self.sampling.max_tokens
            if self._speech is not None:
                self._speech.close()
        yield EndEvent(self.text)

    def _remember(self, state: ThinkerState, all_got: bool) -> None:
        """Keeps what was read: with the answer, or the question alone where there are words that nobody got."""
        if not all_got:
            self.chat.thinker.rewind(state, len(state.turns) - 1)
            self.chat.remember(state, self.past)
        elif self.message is not None and (self.calling is None or self.calling.settled):
            if state.hidden is None and not state.pending:
                self.chat.remember(state, [*self.past, self.message])

    def until(self, seconds: float) -> str:
        """The words that were said aloud in the first `seconds`, as the talker has timed them (`Timing`); of a written
        answer all of them."""
        if not self.spoken:
            return self.text
        return "" if self._speech is None else self._speech.until(seconds)

    def _thoughts(self, state: ThinkerState) -> Generator[GeneratedToken | Call, None, None]:
        how = self.sampling
        thinker, calling = self.chat.thinker, self.calling
        sampling = how.thinking
        if calling is None and how.schema is not None:
            yield from thinker.stream(state, how.max_tokens, sampling, thinker.grammars.json(how.schema))
            return
        if calling is None:
            yield from thinker.stream(state, how.max_tokens, sampling)
            return
        in_words = replace(sampling, not_first=thinker.wordless)
        try:
            grammar = calling.grammar(lambda: thinker.grammars)
            strict = {} if grammar is None else {"grammar": grammar}
            given = thinker.stream(state, how.max_tokens, in_words if calling.in_words else sampling, **strict)
            yield from calling.part(given, how.max_tokens)
        except RepeatedCall:
            thinker.rewind(state, len(state.turns) - 1)
            calling.answer_in_words()
            thinker.begin_reply(state)
            yield from calling.part(thinker.stream(state, how.max_tokens, in_words), how.max_tokens)

    def _said(self, thought: GeneratedToken | Call) -> Event | None:
        if isinstance(thought, Call):
            self._called.append(thought)
            return CallEvent(thought)
        self.text += thought.text
        if thought.chances is not None:
            self._chances.append(self._told(thought.chances))
        if not thought.text:
            return None
        chances, self._chances = tuple(self._chances), []
        return TextEvent(thought.text, chances=chances)

    def _told(self, chances: TokenChances) -> TextChances:
        tokenizer = self.chat.thinker.tokenizer
        token, *top = ((token_bytes(tokenizer, each), likely) for each, likely in (chances.token, *chances.top))
        return TextChances(token, tuple(top))

    def _spoken(self, thoughts: Iterable[GeneratedToken | Call], earlier: Tensor | None) -> Iterator[Event | None]:
        synthesizer, how = self.chat.synthesizer, self.sampling
        self._speech = SpokenText(synthesizer, how.seed, how.temperature, how.top_k, how.voice, earlier)
        for each in self._speech.overlapped(map(self._piece, thoughts)):
            yield AudioEvent(Audio(each, synthesizer.sample_rate)) if isinstance(each, Tensor) else each

    def _piece(self, thought: GeneratedToken | Call) -> tuple[Event | None, str | None, Tensor | None]:
        """What is told of a thought, and what is said of it."""
        event = self._said(thought)
        return (event, None, None) if isinstance(thought, Call) else (event, thought.text, thought.hidden)


def cut_sampling(sampling: Sampling, max_tokens: int | None) -> Sampling:
    """The sampling with at most so many tokens; None leaves it."""
    return sampling if max_tokens is None else replace(sampling, max_tokens=min(max_tokens, 1024))
