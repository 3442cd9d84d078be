"""An OpenAI Realtime session, sans-IO: client events in, server events and commands out, no clock and no thread.

    session = RealtimeSession(ServedModel("mini", ["heart"]), Limits(), now=0.0)
    session.receive({"type": "input_audio_buffer.append", "audio": ...}, now)
    for out in session.take():
        ...                                            # a dict for the client, or a command for who runs the model

What the model finds comes back by `heard`, `judged`, `answered` and `answer_ended`. `connection` connects both ends.
The protocol is the GA one. Sound is the `InputBuffer`'s, what an answer looks like to the client the `Response`'s; what
follows from a turn is decided here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from antiphon.audio.pcm import RATE, pcm16
from antiphon.dialogue.backend import Hearing, StreamingReply
from antiphon.dialogue.events import AudioEvent, CallEvent, TextEvent
from antiphon.dialogue.half_duplex import Message
from antiphon.dialogue.tool_calls import Functions
from antiphon.models.scene.notes import noted
from antiphon.serve.errors import RequestError, missing
from antiphon.serve.openai.options import check_spoken, check_unsupported, own_voice
from antiphon.serve.realtime.commands import (
    Answer,
    Begin,
    Drop,
    Event,
    Expect,
    Finish,
    Hear,
    Limits,
    Outbox,
    ServedModel,
    Stop,
)
from antiphon.serve.realtime.config import (
    SCENE,
    WORDS,
    ResponseChange,
    SessionChange,
    check_change,
    defaults,
    functions_of,
    parse,
    updated,
    voice_of,
)
from antiphon.serve.realtime.input_buffer import InputBuffer, SpeechPaused, SpeechStarted, SpeechStopped
from antiphon.serve.realtime.items import Conversation, Item, Turn, new_id, parse_item, with_heard
from antiphon.serve.realtime.response import Response

MAX_OUTSIDE = 4  # responses outside of the conversation at once
WEBRTC_ONLY = ("output_audio_buffer.clear",)


@dataclass
class _Waiting:
    """A response that will be made when what it answers has been heard."""

    response: Response
    items: list[Item] | None
    instructions: str | None
    functions: Functions | None


class RealtimeSession:
    """One client.

    Args:
        model: what is served.
        limits: of what a client may send.
        now: monotonic seconds, as in every call.
        wall: seconds since 1970, for `expires_at`.
        transcription: a session that only writes down.

    Attributes:
        config: as the protocol shows it.
        conversation, input, responses: what there is: items, the sound that is no item yet, answers under way.
        spoke_until: until when the client plays what was said, as far as can be told from here.
    """

    def __init__(self, model: ServedModel, limits: Limits, now: float, wall: float = 0.0, transcription: bool = False):
        self.id, self.conversation_id = new_id("sess"), new_id("conv")
        self.model, self.limits, self.now = model, limits, now
        expires = int(wall + limits.session_seconds)
        self.config = defaults(self.id, model.name, next(iter(model.voices), None), expires, transcription)
        self.out = Outbox()
        self.conversation = Conversation(limits.items)
        self.input = InputBuffer(limits, self.out)
        self.input.configure(self.config["audio"]["input"])
        self.responses: dict[str, Response] = {}
        self.spoken = False
        self.spoke_until = now
        self._waiting: list[_Waiting] = []
        self._response_pending = False  # an answer is due when the active response is over
        self._asked: float | None = None  # spoke_until that an idle prompt was given for
        self._due: set[str] = set()  # items to be answered as soon as they have been heard
        self._words = False  # something was said in those that have been heard meanwhile

    def preset(self, given: Any) -> None:
        """Takes a configuration, `session` as of session.update.

        Raises:
            RequestError: what is wrong with it.
        """
        before = self.config["audio"]["input"]
        model = self.model
        new = updated(self.config, given, model.voices, self.spoken, model.supports_tools, model.languages)
        self._check_turns(new["audio"]["input"]["turn_detection"])
        self.config = new
        if not model.writes_down and self.config["type"] == "realtime":
            self.config["audio"]["input"]["transcription"] = None  # there will be none, and the client is told so
        self.input.configure(self.config["audio"]["input"], before)

    def _check_turns(self, how: dict[str, Any] | None) -> None:
        """Raises RequestError where nobody is there to find turns so."""
        asked = how is not None and how["type"] == "semantic_vad" and self.limits.turns is None
        why = "this server has no turn model; ask for 'server_vad', or for null"
        check_unsupported({"audio.input.turn_detection.type": (asked, why)}, "session.")

    def begin(self) -> None:
        """Greets the client, with one event as OpenAI does: Open WebUI takes the next for the answer to its update."""
        self.out.emit({"type": "session.created", "session": self.config})

    def take(self) -> list[Any]:
        """What came out since the last call: dicts for the client and commands, in order."""
        return self.out.take()

    def receive(self, event: Any, now: float) -> None:
        """Takes a client's event, as parsed from JSON. What is wrong with it is told to the client and nobody else."""
        self.now = now
        event_id = event.get("event_id") if isinstance(event, dict) else None
        try:
            if not isinstance(event, dict):
                raise RequestError("invalid_event", "An event is a JSON object.")
            if event_id is not None and not (isinstance(event_id, str) and len(event_id) <= 512):
                event_id = None
                raise RequestError("invalid_value", "event_id is a string of at most 512 letters.", "event_id")
            kind = event.get("type")
            if kind in WEBRTC_ONLY:
                raise RequestError("webrtc_only", f"'{kind}' is for WebRTC; here, stop playing on your side.", "type")
            handler = HANDLERS.get(kind) if isinstance(kind, str) else None
            if handler is None:
                known = ", ".join(sorted(HANDLERS))
                said = f"Invalid value: {str(kind)[:60]!r}. Supported values are: {known}."
                raise RequestError("invalid_value", said, "type")
            getattr(self, handler)(event)
        except RequestError as error:
            self.complain(error, event_id)

    def complain(self, error: RequestError, event_id: str | None = None) -> None:
        """Tells the client of an error."""
        self.out.emit({"type": "error", "error": error.shown() | {"event_id": event_id}})

    def tick(self, now: float) -> None:
        """Time goes by: asks whether the user is still there, if that is wanted."""
        self.now = now
        how = self.config["audio"]["input"]["turn_detection"]
        wait = how.get("idle_timeout_ms") if how else None
        if not wait or self.input.turn is not None or self.active() is not None or self._asked == self.spoke_until:
            return
        if self.conversation.items and now - self.spoke_until >= wait / 1000:
            self._asked = self.spoke_until
            end = self.input.position * 1000 // RATE
            item = Item(new_id("item"), "user", [{"type": "input_audio", "transcript": ""}])
            when = {"audio_start_ms": max(0, end - wait), "audio_end_ms": end}
            self.out.emit({"type": "input_audio_buffer.timeout_triggered", **when, "item_id": item.id})
            self._commit(item, heard=False)
            self.respond()

    # What the user says

    def take_sound(self, samples: np.ndarray) -> None:
        """More of the sound from the client, float32 [N] at 24 kHz, within the bounds."""
        self.input.own = self.now < self.spoke_until
        for edge in self.input.add(samples):
            if isinstance(edge, SpeechStarted):
                self._speech_started(edge)
            elif isinstance(edge, SpeechPaused):
                self._speech_paused(edge)
            else:
                self._speech_stopped(edge)

    def _speech_started(self, edge: SpeechStarted) -> None:
        when = {"audio_start_ms": edge.at_ms, "item_id": edge.turn.id}
        self.out.emit({"type": "input_audio_buffer.speech_started", **when})
        active = self.active()
        if active is not None and self.config["audio"]["input"]["turn_detection"]["interrupt_response"]:
            self.cancel(active, "turn_detected")
        if (answer := self._answer_to_come()) is not None:
            self.out.command(Expect(edge.turn.id, answer))

    def _speech_paused(self, edge: SpeechPaused) -> None:
        self.out.command(Begin(edge.turn.id, edge.number, self._answer_to_come()))

    def _speech_stopped(self, edge: SpeechStopped) -> None:
        when = {"audio_end_ms": edge.at_ms, "item_id": edge.turn.id}
        self.out.emit({"type": "input_audio_buffer.speech_stopped", **when})
        self._commit(self.input.take())
        if self.config["audio"]["input"]["turn_detection"]["create_response"] and self.config["type"] == "realtime":
            self._due.add(edge.turn.id)

    def heard(self, item_id: str, hearing: Hearing | None, failure: str | None, now: float) -> None:
        """An item's turn was heard; or couldn't be, with a message for the client."""
        self.now = now
        item = self.conversation.get(item_id)
        if item is None or not item.hearing:
            return
        item.hearing = False
        transcript = hearing.text if hearing is not None else ""
        for at, part in enumerate(item.content):
            if part["type"] == "input_audio" and part["transcript"] is None:
                part["transcript"] = transcript
                self._tell_scene(item, at, hearing)
                self._tell_transcript(item, at, transcript, failure)
                break
        if item.message is not None:
            item.message = with_heard(item.message, hearing or Hearing(""))
        elif hearing is not None and hearing.message().is_something:
            item.message = hearing.message()
        self.next_responses()
        if item.id in self._due:
            self._due.discard(item.id)
            self._words = self._words or (hearing is not None and hearing.is_speech)
            if self._words and not self._due:
                self._words = False
                self.respond()

    def judged(self, item_id: str, number: int, chance: float, now: float) -> None:
        """How likely a turn was over at a pause by its sound."""
        self.now = now
        if (edge := self.input.judged(item_id, number, chance)) is not None:
            self._speech_paused(edge)

    def worded(self, item_id: str, number: int, chance: float, now: float) -> None:
        """How likely a turn was over at a pause by its words."""
        self.now = now
        self.input.worded(item_id, number, chance)

    def _answer_to_come(self) -> Answer | None:
        """What will be asked for when the user's turn is over, if nothing happens meanwhile; None if that can't be
        told."""
        detection, items = self.config["audio"]["input"]["turn_detection"], self.conversation.items
        wanted = detection is not None and detection["create_response"] and self.config["type"] == "realtime"
        if not wanted or self.responses or not self.model.transcribes or any(item.hearing for item in items):
            return None
        spoken, tokens = "audio" in self.config["output_modalities"], self.config["max_output_tokens"]
        functions = functions_of(self.config, SessionChange(), "session", self.model.supports_tools)
        voice = own_voice(self.config["audio"]["output"]["voice"], self.model.voices)
        how = (self.config["instructions"], spoken, _limit(tokens), False, functions, voice)
        return Answer("", _turns(items), *how)

    def _audio_append(self, event: Event) -> None:
        self.take_sound(self.input.decode(event.get("audio")))

    def _audio_commit(self, event: Event) -> None:
        self._commit(self.input.commit())

    def _audio_clear(self, event: Event) -> None:
        self.input.clear()
        self.out.emit({"type": "input_audio_buffer.cleared"})

    def _commit(self, turn: Item, heard: bool = True) -> None:
        """A turn becomes an item of the conversation."""
        try:
            before = self.conversation.insert(turn)
        except RequestError:
            self.out.command(Drop(turn.id))
            raise
        self.conversation.keep(turn, b"")
        self.out.emit({"type": "input_audio_buffer.committed", "previous_item_id": before, "item_id": turn.id})
        turn.hearing = heard and self.model.transcribes
        self._show_item(turn, before)
        if heard:
            self.out.command(Finish(turn.id) if turn.hearing else Drop(turn.id))

    def _show_item(self, item: Item, before: str | None) -> None:
        """Tells the client that an item is there."""
        for kind in ("added", "done"):
            event = {"type": f"conversation.item.{kind}", "previous_item_id": before, "item": item.wire()}
            self.out.emit(event)

    def _tell_transcript(self, item: Item, at: int, transcript: str, failure: str | None) -> None:
        if self.config["audio"]["input"]["transcription"] is None:
            return
        where = {"item_id": item.id, "content_index": at}
        name = "conversation.item.input_audio_transcription"
        if failure is not None:
            error = {"type": "transcription_error", "code": "audio_unintelligible", "message": failure, "param": None}
            self.out.emit({"type": f"{name}.failed", **where, "error": error})
            return
        if transcript:
            self.out.emit({"type": f"{name}.delta", **where, "delta": transcript})
        usage = {"type": "duration", "seconds": round(item.audio_ms / 1000, 3)}
        self.out.emit({"type": f"{name}.completed", **where, "transcript": transcript, "usage": usage})

    def _tell_scene(self, item: Item, at: int, hearing: Hearing | None) -> None:
        """What was heard besides the words, for those who include it."""
        if hearing is not None and hearing.scene is not None and SCENE in (self.config["include"] or ()):
            where = {"item_id": item.id, "content_index": at}
            scene = hearing.scene.to_json()
            told = {"duration": scene["duration"], "events": scene["events"], "noted": noted(hearing.scene)}
            self.out.emit({"type": "conversation.item.input_audio_scene.completed", **where, **told})

    # What clients ask for

    def _session_update(self, event: Event) -> None:
        if "session" not in event:
            raise missing("session")
        self.preset(event["session"])
        self.out.emit({"type": "session.updated", "session": self.config})

    def _item_create(self, event: Event) -> None:
        item, sound = self._parse_item(event.get("item"), "item")
        for result in item.message.results if item.message is not None else ():
            if not any(call.id == result.id for other in self.conversation.items for call in other.calls):
                raise RequestError("invalid_value", f"No call has the id '{result.id}'.", "item.call_id")
        previous = event.get("previous_item_id")
        if previous is not None and not isinstance(previous, str):
            raise RequestError("invalid_type", "previous_item_id is a string or null.", "previous_item_id")
        samples = self.input.decode_whole(sound)
        before = self.conversation.insert(item, previous)
        self._show_item(item, before)
        if len(samples):
            item.hearing, item.audio_ms = True, len(samples) / RATE * 1000
            self.conversation.keep(item, pcm16(samples))
            self.out.command(Hear(item.id, samples), Finish(item.id))

    def _parse_item(self, given: Any, param: str) -> tuple[Item, bytes]:
        model = self.model
        return parse_item(given, param, model.supports_tools, model.sees, self.limits.turn_seconds)

    def _item_retrieve(self, event: Event) -> None:
        item = self._item(event, "item_retrieve_invalid_item_id")
        self.out.emit({"type": "conversation.item.retrieved", "item": item.wire(with_audio=True)})

    def _item_delete(self, event: Event) -> None:
        item = self._item(event, "item_delete_invalid_item_id")
        self.conversation.items.remove(item)
        if item.hearing:
            item.hearing = False
            self._due.discard(item.id)
            self.out.command(Drop(item.id))
        self.out.emit({"type": "conversation.item.deleted", "item_id": item.id})
        self.next_responses()

    def _item_truncate(self, event: Event) -> None:
        item = self._item(event, "item_truncate_invalid_item_id")
        at, end = event.get("content_index"), event.get("audio_end_ms")
        if item.role != "assistant" or item.answer is None or item.content[0]["type"] != "output_audio":
            said = "Only what the assistant has said aloud can be truncated."
            raise RequestError("item_truncate_invalid_item_id", said, "item_id")
        if at != 0 or isinstance(at, bool):
            said = "Invalid value for 'content_index': the sound is part 0."
            raise RequestError("invalid_value", said, "content_index")
        if not isinstance(end, int) or isinstance(end, bool) or end < 0:
            raise RequestError("invalid_value", "audio_end_ms is a whole number, 0 or more.", "audio_end_ms")
        if end > math.ceil(item.audio_ms) + 100:
            said = f"Audio content of {item.audio_ms:.0f}ms is already shorter than {end}ms."
            raise RequestError("invalid_value", said, "audio_end_ms")
        heard = item.answer.until(end / 1000)
        item.message = Message("assistant", heard)
        item.content[0]["transcript"] = heard.strip()
        item.audio_ms, self.spoke_until = min(item.audio_ms, float(end)), self.now  # it doesn't sound any more
        del item.audio[end * 48 :]
        shown = {"item_id": item.id, "content_index": 0, "audio_end_ms": end}
        self.out.emit({"type": "conversation.item.truncated", **shown})

    def _response_create(self, event: Event) -> None:
        self._ask(event.get("response") or {})

    def _response_cancel(self, event: Event) -> None:
        wanted = event.get("response_id")
        response = self.active() if wanted is None else self.responses.get(wanted) if isinstance(wanted, str) else None
        if response is None:
            raise RequestError("response_cancel_not_active", "Cancellation failed: no active response found", None)
        self._response_pending = False
        self.cancel(response, "client_cancelled")

    def _item(self, event: Event, code: str) -> Item:
        item = self.conversation.get(event.get("item_id"))
        if item is None:
            raise RequestError(code, f"The item '{str(event.get('item_id'))[:128]}' doesn't exist.", "item_id")
        return item

    # Responses

    def active(self) -> Response | None:
        """The response that is being made for the conversation."""
        return next((response for response in self.responses.values() if response.conversation is not None), None)

    def respond(self) -> None:
        """A turn of the user is over: answer it, now or after what is being said."""
        if self.active() is not None:
            self._response_pending = True
        else:
            self._ask({})

    def cancel(self, response: Response, reason: str) -> None:
        """Ends a response; nothing more of it is sent."""
        del self.responses[response.id]
        self._waiting = [waiting for waiting in self._waiting if waiting.response is not response]
        self.out.command(Stop(response.id))
        self._over(response, "cancelled", reason)

    def _ask(self, given: Any) -> None:
        if self.config["type"] == "transcription":
            raise RequestError("invalid_value", "A transcription session gives no responses.", "type")
        change = parse(ResponseChange, given, "response")
        functions = functions_of(self.config, change, "response", self.model.supports_tools)
        check_change(change, "response")
        check_spoken("audio" in (change.output_modalities or ()), self.model.voices, "response.output_modalities")
        outside = change.conversation == "none"
        if change.conversation not in (None, "auto", "none"):
            raise RequestError("invalid_value", "conversation is 'auto' or 'none'.", "response.conversation")
        if not outside and (active := self.active()) is not None:
            said = "Wait until the response is finished before creating a new one."
            said = f"Conversation already has an active response in progress: {active.id}. {said}"
            raise RequestError("conversation_already_has_active_response", said)
        if outside and len(self.responses) >= MAX_OUTSIDE:
            raise RequestError("too_many_responses", f"At most {MAX_OUTSIDE} responses at once.")
        output = self.config["audio"]["output"]
        out = change.audio.output if change.audio is not None else None
        voice = voice_of(out, self.model.voices, "response") or output["voice"]
        form = out.format.model_dump() if out is not None and out.format is not None else output["format"]
        items = self._input(change.input)
        response = Response(
            None if outside else self.conversation,
            None if outside else self.conversation_id,
            "audio" in (change.output_modalities or self.config["output_modalities"]),
            form,
            voice,
            change.max_output_tokens or self.config["max_output_tokens"],
            change.metadata,
        )
        self.responses[response.id] = response
        self.out.emit(*response.created())
        instructions = change.instructions if change.instructions is not None else self.config["instructions"]
        self._waiting.append(_Waiting(response, items, instructions, functions))
        self.next_responses()

    def _input(self, given: list[dict[str, Any]] | None) -> list[Item] | None:
        """What a response is to answer instead of the conversation."""
        if given is None:
            return None
        items: list[Item] = []
        for number, shown in enumerate(given[: self.limits.items]):
            where = f"response.input[{number}]"
            if shown.get("type") == "item_reference":
                found = self.conversation.get(shown.get("id"))
                if found is None:
                    raise RequestError("invalid_value", f"No item '{str(shown.get('id'))[:128]}'.", f"{where}.id")
                items.append(found)
                continue
            item, sound = self._parse_item(shown, where)
            if sound:
                said = "Create the item with its sound first, and refer to it here."
                raise RequestError("invalid_value", said, f"{where}.content")
            items.append(item)
        return items

    def next_responses(self) -> None:
        """Starts the responses whose input has been heard."""
        for waiting in list(self._waiting):
            past = self.conversation.items if waiting.items is None else waiting.items
            if any(item.hearing for item in past):
                continue
            self._waiting.remove(waiting)
            response = waiting.response
            limit, outside = _limit(response.max_tokens), response.conversation is None
            voice = own_voice(response.voice, self.model.voices)
            how = (waiting.instructions, response.spoken, limit, outside, waiting.functions, voice)
            self.out.command(Answer(response.id, _turns(past), *how))

    # What the model finds

    def answer_begun(self, response_id: str, answer: StreamingReply) -> None:
        """The answer to a response is being made by `answer`."""
        if response_id in self.responses:
            self.responses[response_id].answer = answer

    def answered(self, response_id: str, event: object, now: float) -> None:
        """More of an answer; what comes after its end is nobody's."""
        self.now = now
        response = self.responses.get(response_id)
        if response is None:
            return
        try:
            if isinstance(event, TextEvent):
                self.out.emit(*response.say(event.text))
            elif isinstance(event, AudioEvent):
                self.spoken = True
                if response.conversation is not None:
                    self.spoke_until = max(self.spoke_until, self.now) + event.audio.duration
                self.out.emit(*response.sound(event.audio.samples.numpy()))
                if WORDS in (self.config["include"] or ()):
                    self.out.emit(*response.words())
            elif isinstance(event, CallEvent):
                self.out.emit(*response.call(event.call))
        except RequestError as error:  # the conversation is full
            self.out.command(Stop(response_id))
            self.answer_ended(response_id, error.message, now)

    def answer_ended(self, response_id: str, failure: str | None, now: float, code: str = "model_error") -> None:
        """An answer is complete, or failed with a message for the client, and a code for its program."""
        self.now = now
        response = self.responses.pop(response_id, None)
        if response is None:
            return
        cut = response.answer is not None and response.answer.cut
        try:
            self.out.emit(*(response.close("incomplete" if cut else "completed") if failure is None else []))
        except RequestError as error:  # no room for what it calls
            failure = error.message
        if failure is not None:
            kind = "server_error" if code == "model_error" else "invalid_request_error"
            error = {"type": kind, "code": code, "message": failure}
            self._over(response, "failed", None, error)
        elif cut:
            self._over(response, "incomplete", "max_output_tokens")
        else:
            self._over(response, "completed")
        if self._response_pending and self.active() is None:
            self._response_pending = False
            self._ask({})

    def _over(self, response: Response, status: str, reason: str | None = None, error: Event | None = None) -> None:
        self.out.emit(*response.finish(status, reason, error))
        self.out.emit({"type": "rate_limits.updated", "rate_limits": []})
        if response.conversation is not None:
            self.spoke_until = max(self.spoke_until, self.now) if status == "completed" else self.now


def _turns(items: Sequence[Item]) -> list[Turn]:
    """What the model is to read of items."""
    return [turn for item in items if (turn := item.message or item.answer) is not None]


def _limit(tokens: int | str) -> int | None:
    return None if tokens == "inf" else int(tokens)


HANDLERS = {  # method names: a session of another kind has methods of its own
    "session.update": "_session_update",
    "input_audio_buffer.append": "_audio_append",
    "input_audio_buffer.commit": "_audio_commit",
    "input_audio_buffer.clear": "_audio_clear",
    "conversation.item.create": "_item_create",
    "conversation.item.retrieve": "_item_retrieve",
    "conversation.item.truncate": "_item_truncate",
    "conversation.item.delete": "_item_delete",
    "response.create": "_response_create",
    "response.cancel": "_response_cancel",
}
