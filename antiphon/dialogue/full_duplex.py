"""A model that takes turns, in full duplex: it hears while it speaks, and knows what to do about it.

    with FullDuplexSession(backend) as session:
        for frame in microphone:                          # 80 ms
            for event in session.step(frame): ...         # AudioEvent (80 ms to play), HeardEvent, TextEvent, ...

Two halves. `step` is the one that never waits: it takes the echo of the model's own voice out of the frame, has a
`TakesTurns` decide, and gives what is to be played next; so an answer stops at once, whatever the model is doing. The
other (`Answering`, on a thread) hears words, thinks and speaks; an answer is begun when the user's turn is likely over,
and dropped unheard if they go on.

When the user speaks into an answer, it is held. It is ended, and the conversation goes on from what was heard of it, if
they go on speaking or have said words that are more than a sign of listening; else it goes on where it was held.

Where the machine is busy or the clock isn't real (measuring, recordings), `pace=1.0`: then there is no thread, and
`step` has the other half done for as much computing time as its frame lasts.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from antiphon.audio.echo import EchoCanceller
from antiphon.audio.io import Audio
from antiphon.dialogue.ahead import unthreaded
from antiphon.dialogue.answering import Answering, Player
from antiphon.dialogue.backend import Backend
from antiphon.dialogue.events import AudioEvent, EndEvent, Sampling, SpeakingEvent, TextEvent
from antiphon.dialogue.session import Session
from antiphon.dialogue.tools import Tool
from antiphon.dialogue.turn_taking.decision import TakesTurns, TurnDecision
from antiphon.errors import SessionError

MODES = ("full-duplex",)
WORD_LEAD_SECONDS = 0.24  # before its end that a word is told of, about when it begins
LEAD_FRAMES = 6  # up to and with the one in which a voice was found that are heard with it
PASSED_SECONDS = 0.8  # of quiet after which what was said into an answer, and took no turn, is forgotten
JUDGE_SECONDS = 0.3  # of quiet after which the words of what held an answer are looked at
CONFIRM_SECONDS = 0.9  # of a voice that end a held answer, whatever the words
LEAST_SECONDS = 0.16  # of a voice, without which what is heard is passed over after as much quiet
GO_ON_SECONDS = 0.24  # of a voice, before an answer has begun to sound, that withdraw it: the turn wasn't over


class FullDuplexSession(Session):
    """One live conversation.

    Args:
        backend: what listens, thinks and speaks.
        turns: decides; None for the network that ships (`antiphon.dialogue.turn_taking.default.turn_taking`).
        sampling: how answers are drawn.
        echo: the microphone hears the loudspeaker: what `step` gave is taken out of what it is given next.
        backchannels: give signs of listening ("Mhm.") where the user pauses in a long turn.
        tools: that answers may call; CallEvents and ResultEvents tell of it. Hearing goes on meanwhile.
        filler: is said when an answer calls its first tool, such as "One moment."; "" for nothing.
        nudge: seconds of silence after an answer, after which the user is asked once whether they are there; None for
            never.
        selective: who speaks to somebody else, by their words, or far away, by their level, isn't answered.
        pace: None: answers are made on a thread. Else `step` makes them, for so many seconds of this thread's computing
            time a second of sound: as if there were a core for that and nothing else to do.

    Raises:
        AudioError: `echo`, and echo cancellation isn't installed.
    """

    def __init__(
        self,
        backend: Backend,
        turns: TakesTurns | None = None,
        sampling: Sampling | None = None,
        echo: bool = False,
        backchannels: bool = False,
        pace: float | None = None,
        tools: Sequence[Tool] = (),
        filler: str = "",
        nudge: float | None = None,
        selective: bool = False,
    ) -> None:
        super().__init__("full-duplex", "listen", MODES)
        self.sample_rate, self.frame_samples = backend.sample_rate, backend.sample_rate * 2 // 25
        if turns is None:
            from antiphon.dialogue.turn_taking.default import turn_taking

            turns = turn_taking(self.sample_rate)
        if turns.sample_rate != self.sample_rate:
            raise SessionError(f"turns are found at {turns.sample_rate} Hz, the model hears {self.sample_rate}")
        self.turns, self.sampling = turns, sampling or Sampling()
        self._canceller = EchoCanceller(self.sample_rate) if echo else None
        self._player = Player(self.sample_rate)
        said = partial(_said_once, backend, self.sampling)
        self._answering = Answering(
            backend, self.sampling, self._player, self._events.put, self.turns.judge_words, tools,
            said(filler) if filler else None, selective,
        )  # fmt: skip
        self._sign = said("Mhm.") if backchannels else None
        self._sign_left = torch.zeros(0)
        self._time = 0.0  # seconds of sound so far
        self._sounded = torch.zeros(0)  # what was given last, which sounds while the next frame is recorded
        self._lead: deque[Tensor] = deque(maxlen=LEAD_FRAMES)
        self._listening = False  # a turn of the user is being heard
        self._began = self._voiced = self._quiet = 0.0  # when it began, seconds of a voice in it, and since
        self._energy = 0.0  # of the voice in it: the sum of mean squares by the second
        self._likely = self._taken = self._judging = self._held = False
        self._speaking = False
        self._nudge, self._idle = nudge, 0.0  # seconds in which nobody has spoken
        self._text = ""  # of the answer, that has sounded
        self._budget = 0.0  # seconds of computing that `work` may still take
        self.pace = pace
        self._thread: threading.Thread | None = None
        if pace is None:
            self._thread = threading.Thread(target=self._run, name="antiphon-full-duplex", daemon=True)
            self._thread.start()

    @property
    def time(self) -> float:
        """Seconds of sound so far."""
        return self._time

    @property
    def frame_seconds(self) -> float:
        """Of the frames that `step` usually gets."""
        return self.frame_samples / self.sample_rate

    def say(self, text: str) -> None:
        """There is none here.

        Raises:
            SessionError: always.
        """
        raise SessionError('this session answers; model.session("simplex", direction="speak") reads aloud')

    def end_of_turn(self) -> None:
        """The user has finished: answer now."""
        self._check_open()
        if self._listening and not self._held:
            self._take_turn()
            self.turns.over()

    def interrupt(self, heard: float | None = None) -> None:
        """Stops the answer. Of it the conversation keeps what was heard: what this session has given to play, or so
        many seconds of it."""
        if self._player.playing:
            self._stop(self._player.played if heard is None else heard)

    def work(self, seconds: float) -> None:
        """Makes answers, for about so many seconds of this thread's computing time, or until there is nothing to do.
        What a step takes more than that, the next call has less.

        Raises:
            SessionError: a session with a thread of its own.
        """
        if self._thread is not None:
            raise SessionError("this session works on its own thread; model.session(..., pace=1.0)")
        self._budget = min(0.0, self._budget) + seconds
        while self._budget > 0:
            begun = time.thread_time()
            with unthreaded():  # what another thread did would not be counted
                if not self._answering.work():
                    return
            self._budget -= time.thread_time() - begun

    def _run(self) -> None:
        try:
            while not self._closed.is_set():
                if not self._answering.work():
                    self._answering.wait(0.2)
        except BaseException as error:  # handed to the caller: a thread must not die in silence
            self._events.put(error)
        finally:
            self._answering.close()

    def _end(self) -> None:
        if self._thread is None:
            self._answering.close()
        elif self._thread is not threading.current_thread():
            self._answering.ask("nothing")
            self._thread.join()

    # A frame

    def _take(self, frame: Tensor) -> None:
        if self._canceller is not None:
            played = torch.nn.functional.pad(self._sounded, (0, max(0, len(frame) - len(self._sounded))))
            frame = self._canceller.step(frame, played[: len(frame)])
        seconds = len(frame) / self.sample_rate
        decision = self.turns.step(frame, self._speaking)
        self._lead.append(frame)
        self._hear(frame, decision, seconds)
        if self._held:
            self._while_held(decision)
        elif self._speaking:
            self._while_speaking(decision)
        else:
            self._while_silent(decision)
        self._while_idle(seconds)
        self._time += seconds
        self._give(len(frame))
        if self.pace is not None:
            self.work(seconds * self.pace)

    def _hear(self, frame: Tensor, decision: TurnDecision, seconds: float) -> None:
        """Has the words heard, from a little before the first voice on."""
        if self._listening:
            self._answering.ask("hear", frame)
        elif decision.voiced:
            self._listening, self._voiced, self._energy = True, 0.0, 0.0
            self._likely = self._taken = False
            self._began = self._time
            self._answering.ask("begin", list(self._lead))
        self._voiced += seconds * decision.voiced
        self._energy += seconds * decision.voiced * float(frame.square().mean())
        self._quiet = 0.0 if decision.voiced else self._quiet + seconds

    def _while_silent(self, decision: TurnDecision) -> None:
        if not self._listening:
            return
        if self._player.playing and self._voiced >= GO_ON_SECONDS:
            self._stop(0.0)  # nothing of it has sounded
        if decision.kind == "take":
            self._take_turn()
        elif decision.likely and not self._likely:
            self._likely = True
            self._answering.ask("likely")
        elif decision.voiced and self._likely:
            self._likely = False
            self._answering.ask("resumed")
        elif decision.kind == "backchannel" and self._sign is not None and not len(self._sign_left):
            self._sign_left = self._sign
        elif self._voiced < LEAST_SECONDS and self._quiet >= PASSED_SECONDS:
            self._passes()

    def _while_speaking(self, decision: TurnDecision) -> None:
        if decision.kind == "yield":
            self._held, self._judging, self._taken = True, False, False
            if not self._listening:  # the voice was found without a frame that is one
                self._listening = True
                self._answering.ask("begin", list(self._lead))
        elif self._listening and self._quiet >= PASSED_SECONDS:
            self._passes()

    def _while_held(self, decision: TurnDecision) -> None:
        """An answer waits: is what is said a turn?"""
        self._taken = self._taken or decision.kind == "take"
        if self._voiced >= CONFIRM_SECONDS or (self._judging and self._answering.verdict == "turn"):
            self._held = False
            self._stop(self._player.played)
            if self._taken:
                self._take_turn()
        elif self._judging and self._answering.verdict == "nothing":
            self._held = False
            self._passes()
        elif not self._judging and (self._quiet >= JUDGE_SECONDS or self._taken):
            self._judging = True
            self._answering.ask("judge")

    def _while_idle(self, seconds: float) -> None:
        """Nobody speaks: after long enough the user is asked whether they are there, once."""
        before = self._idle
        self._idle = 0.0 if self._listening else before if self._player.playing else before + seconds
        if self._nudge is not None and before < self._nudge <= self._idle:
            self._answering.ask("nudge")

    def _take_turn(self) -> None:
        self._listening = self._likely = self._taken = False
        self._text = ""
        level = 10 * math.log10(self._energy / max(self._voiced, 1e-6) + 1e-12)
        self._answering.ask("over", (self._began, self._time - self._quiet, level))

    def _passes(self) -> None:
        """What was said took no turn."""
        self._listening = self._likely = False
        self.turns.over()
        self._answering.ask("nothing")

    def _stop(self, heard: float) -> None:
        self._held = False
        self._player.clear()
        self._answering.ask("stop", heard)
        self._text = ""

    def _give(self, count: int) -> None:
        """Gives what is to be played during the next frame, and tells what is said in it."""
        sound = torch.zeros(0) if self._held else self._player.take(count)
        speaking = not self._held and (len(sound) > 0 or self._player.sounds)
        if len(sound):
            self._tell_words()
        elif len(self._sign_left):
            sound, self._sign_left = self._sign_left[:count], self._sign_left[count:]
        self._sounded = torch.nn.functional.pad(sound, (0, count - len(sound)))
        self._events.put(AudioEvent(Audio(self._sounded, self.sample_rate)))
        if speaking != self._speaking:
            self._speaking = speaking
            self._events.put(SpeakingEvent(speaking, self._time))
            if not speaking and not self._held and not self._player.playing:
                self._finish()

    def _tell_words(self) -> None:
        said = self._answering.until(self._player.played + WORD_LEAD_SECONDS)
        if said.startswith(self._text) and len(said) > len(self._text):
            self._events.put(TextEvent(said[len(self._text) :], self._time))
            self._text = said

    def _finish(self) -> None:
        """The answer has sounded to its end."""
        reply = self._answering.reply
        if reply is not None and self._text:
            if rest := reply.text[len(self._text) :] if reply.text.startswith(self._text) else "":
                self._events.put(TextEvent(rest, self._time))
            self._events.put(EndEvent(reply.text))
        self._text = ""


def _said_once(backend: Backend, sampling: Sampling, text: str) -> Tensor:
    return torch.cat([each.samples for each in backend.say(text, sampling)])
