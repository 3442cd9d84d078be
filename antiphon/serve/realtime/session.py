"""An OpenAI Realtime session as a machine without clock or thread: client events in, server events and commands out.

    session = RealtimeSession("mini", ["heart"], limits, now=0.0)
    session.receive({"type": "input_audio_buffer.append", "audio": ...}, now)
    for out in session.take():
        ...                                            # a dict for the client, or a command for who runs the model

What the model finds comes back by `heard`, `peeked`, `answered` and `answer_ended`. `realtime_line` connects both
ends. The protocol is the GA one; `realtime_turns` holds the half of this machine that is about sound and turns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from antiphon.dialogue.events import AudioEvent, CallEvent, TextEvent
from antiphon.dialogue.half_duplex import Message, StreamingReply
from antiphon.dialogue.tool_calls import Functions
from antiphon.serve.realtime.commands import Answer, Drop, Limits, Stop
from antiphon.serve.realtime.config import (
    ProtocolError,
    ResponseChange,
    check_modalities,
    check_speed,
    check_supported,
    check_voice,
    defaults,
    functions_of,
    parse,
    updated,
)
from antiphon.serve.realtime.input_buffer import InputTurns
from antiphon.serve.realtime.items import Item, Turn, new_id, parse_item
from antiphon.serve.realtime.response import Event, Response

OUT_OF_BAND = 4  # responses outside of the conversation at once
WEBRTC_ONLY = ("output_audio_buffer.clear",)


@dataclass
class _Waiting:
    """A response that will be made when what it answers has been heard."""

    response: Response
    items: list[Item] | None
    instructions: str | None
    functions: Functions | None


class RealtimeSession(InputTurns):
    """One client.

    Args:
        model, voices: what is served.
        limits: of what a client may send.
        now: monotonic seconds, as in every call.
        wall: seconds since 1970, for `expires_at`.
        transcribe: a session that only writes down.

    Attributes:
        able: the model can call functions.
    """

    able = False

    def __init__(self, model: str, voices: list[str], limits: Limits, now: float, wall: float = 0.0, transcribe=False):
        super().__init__(limits, now)
        self.id, self.conversation_id, self.voices = new_id("sess"), new_id("conv"), voices
        expires = int(wall + limits.session_seconds)
        self.config = defaults(self.id, model, voices[0], expires, transcribe)
        self.responses: dict[str, Response] = {}
        self.spoken = False
        self._waiting: list[_Waiting] = []
        self._owed = False
        self.configure_turns()

    def preset(self, given: dict[str, Any]) -> None:
        """Begins with a configuration, `session` as of session.update.

        Raises:
            ProtocolError: what is wrong with it.
        """
        before = self.config["audio"]["input"]
        self.config = updated(self.config, given, self.voices, self.spoken, self.able)
        self.configure_turns(before)

    def begin(self) -> None:
        """Greets the client."""
        self.emit({"type": "session.created", "session": self.config})
        shown = {"id": self.conversation_id, "object": "realtime.conversation"}
        self.emit({"type": "conversation.created", "conversation": shown})

    def receive(self, event: Any, now: float) -> None:
        """Takes a client's event, as parsed from JSON. What is wrong with it is told to the client and nobody else."""
        self.now = now
        event_id = event.get("event_id") if isinstance(event, dict) else None
        try:
            if not isinstance(event, dict):
                raise ProtocolError("invalid_event", "An event is a JSON object.")
            if event_id is not None and not (isinstance(event_id, str) and len(event_id) <= 512):
                event_id = None
                raise ProtocolError("invalid_value", "event_id is a string of at most 512 letters.", "event_id")
            kind = event.get("type")
            if kind in WEBRTC_ONLY:
                raise ProtocolError("webrtc_only", f"'{kind}' is for WebRTC; here, stop playing on your side.", "type")
            handler = HANDLERS.get(kind) if isinstance(kind, str) else None
            if handler is None:
                known = ", ".join(sorted(HANDLERS))
                said = f"Invalid value: {str(kind)[:60]!r}. Supported values are: {known}."
                raise ProtocolError("invalid_value", said, "type")
            getattr(self, handler)(event)
        except ProtocolError as error:
            self.complain(error, event_id)

    def complain(self, error: ProtocolError, event_id: str | None = None) -> None:
        """Tells the client of an error."""
        shown = {
            "type": "invalid_request_error",
            "code": error.code,
            "message": error.message,
            "param": error.param,
            "event_id": event_id,
        }
        self.emit({"type": "error", "error": shown})

    # What clients ask for

    def _session_update(self, event: Event) -> None:
        if "session" not in event:
            raise ProtocolError("missing_required_parameter", "Missing required parameter: 'session'.", "session")
        self.preset(event["session"])
        self.emit({"type": "session.updated", "session": self.config})

    def _item_create(self, event: Event) -> None:
        item, sound = parse_item(event.get("item"), able=self.able)
        for result in item.message.results if item.message is not None else ():
            if not any(call.id == result.id for other in self.conversation.items for call in other.calls):
                raise ProtocolError("invalid_value", f"No call has the id '{result.id}'.", "item.call_id")
        previous = event.get("previous_item_id")
        if previous is not None and not isinstance(previous, str):
            raise ProtocolError("invalid_type", "previous_item_id is a string or null.", "previous_item_id")
        samples = self.decoded_whole(sound)
        before = self.conversation.insert(item, previous)
        self.show_item(item, before)
        if len(samples):
            self.hear_item(item, samples)

    def _item_retrieve(self, event: Event) -> None:
        item = self._item(event, "item_retrieve_invalid_item_id")
        self.emit({"type": "conversation.item.retrieved", "item": item.wire(with_audio=True)})

    def _item_delete(self, event: Event) -> None:
        item = self._item(event, "item_delete_invalid_item_id")
        self.conversation.items.remove(item)
        if item.hearing:
            item.hearing = False
            self._due.discard(item.id)
            self.command(Drop(item.id))
        self.emit({"type": "conversation.item.deleted", "item_id": item.id})
        self.next_responses()

    def _item_truncate(self, event: Event) -> None:
        item = self._item(event, "item_truncate_invalid_item_id")
        at, end = event.get("content_index"), event.get("audio_end_ms")
        if item.role != "assistant" or item.answer is None or item.content[0]["type"] != "output_audio":
            raise ProtocolError(
                "item_truncate_invalid_item_id", "Only what the assistant has said aloud can be truncated.", "item_id"
            )
        if at != 0 or isinstance(at, bool):
            raise ProtocolError(
                "invalid_value", "Invalid value for 'content_index': the sound is part 0.", "content_index"
            )
        if not isinstance(end, int) or isinstance(end, bool) or end < 0:
            raise ProtocolError("invalid_value", "audio_end_ms is a whole number, 0 or more.", "audio_end_ms")
        if end > math.ceil(item.audio_ms) + 100:
            raise ProtocolError(
                "invalid_value",
                f"Audio content of {item.audio_ms:.0f}ms is already shorter than {end}ms.",
                "audio_end_ms",
            )
        heard = item.answer.until(end / 1000)
        item.message = Message("assistant", heard)
        item.content[0]["transcript"] = heard.strip()
        item.audio_ms = min(item.audio_ms, float(end))
        del item.audio[end * 48 :]
        shown = {"item_id": item.id, "content_index": 0, "audio_end_ms": end}
        self.emit({"type": "conversation.item.truncated", **shown})

    def _response_create(self, event: Event) -> None:
        self._ask(event.get("response") or {})

    def _response_cancel(self, event: Event) -> None:
        wanted = event.get("response_id")
        response = self.active() if wanted is None else self.responses.get(wanted) if isinstance(wanted, str) else None
        if response is None:
            raise ProtocolError("response_cancel_not_active", "Cancellation failed: no active response found", None)
        self._owed = False
        self.cancel(response, "client_cancelled")

    def _item(self, event: Event, code: str) -> Item:
        item = self.conversation.get(event.get("item_id"))
        if item is None:
            raise ProtocolError(code, f"The item '{str(event.get('item_id'))[:128]}' doesn't exist.", "item_id")
        return item

    # Responses

    def active(self) -> Response | None:
        """The response that is being made for the conversation."""
        return next((response for response in self.responses.values() if response.conversation is not None), None)

    def respond(self) -> None:
        """A turn of the user is over: answer it, now or after what is being said."""
        if self.active() is not None:
            self._owed = True
        else:
            self._ask({})

    def cancel(self, response: Response, reason: str) -> None:
        """Ends a response; nothing more of it is sent."""
        del self.responses[response.id]
        self._waiting = [waiting for waiting in self._waiting if waiting.response is not response]
        self.command(Stop(response.id))
        self._over(response, "cancelled", reason)

    def _ask(self, given: Any) -> None:
        if self.config["type"] == "transcription":
            raise ProtocolError("invalid_value", "A transcription session gives no responses.", "type")
        change = parse(ResponseChange, given, "response")
        assert isinstance(change, ResponseChange)
        functions = functions_of(self.config, change, "response", self.able)
        check_modalities(change.output_modalities, "response.output_modalities")
        check_supported(change, "response")
        outside = change.conversation == "none"
        if change.conversation not in (None, "auto", "none"):
            raise ProtocolError("invalid_value", "conversation is 'auto' or 'none'.", "response.conversation")
        if not outside and (active := self.active()) is not None:
            raise ProtocolError(
                "conversation_already_has_active_response",
                f"Conversation already has an active response in progress: {active.id}. "
                "Wait until the response is finished before creating a new one.",
            )
        if outside and len(self.responses) >= OUT_OF_BAND:
            raise ProtocolError("too_many_responses", f"At most {OUT_OF_BAND} responses at once.")
        output = self.config["audio"]["output"]
        out = change.audio.output if change.audio and change.audio.output else None
        voice, form = output["voice"], output["format"]
        if out is not None:
            check_speed(out.speed, "response.audio.output.speed")
            if out.voice is not None:
                named = out.voice if isinstance(out.voice, str) else out.voice.id
                voice = check_voice(named, self.voices, "response.audio.output.voice")
            form = out.format.model_dump() if out.format is not None else form
        items = self._input(change.input)
        modalities = change.output_modalities or self.config["output_modalities"]
        most = change.max_output_tokens or self.config["max_output_tokens"]
        response = Response(
            None if outside else self.conversation,
            None if outside else self.conversation_id,
            "audio" in modalities,
            form,
            voice,
            most,
            change.metadata,
        )
        self.responses[response.id] = response
        for event in response.created():
            self.emit(event)
        instructions = change.instructions if change.instructions is not None else self.config["instructions"]
        self._waiting.append(_Waiting(response, items, instructions, functions))
        self.next_responses()

    def _input(self, given: list[dict[str, Any]] | None) -> list[Item] | None:
        """What a response is to answer instead of the conversation."""
        if given is None:
            return None
        items: list[Item] = []
        for number, shown in enumerate(given[: self.limits.items]):
            if shown.get("type") == "item_reference":
                found = self.conversation.get(shown.get("id"))
                if found is None:
                    raise ProtocolError(
                        "invalid_value", f"No item '{str(shown.get('id'))[:128]}'.", f"response.input[{number}].id"
                    )
                items.append(found)
                continue
            item, sound = parse_item(shown, f"response.input[{number}]", self.able)
            if sound:
                raise ProtocolError(
                    "invalid_value",
                    "Create the item with its sound first, and refer to it here.",
                    f"response.input[{number}].content",
                )
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
            turns: list[Turn] = [turn for item in past if (turn := item.message or item.answer) is not None]
            most = None if response.most == "inf" else int(response.most)
            outside = response.conversation is None
            self.command(
                Answer(response.id, turns, waiting.instructions, response.spoken, most, outside, waiting.functions)
            )

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
                self.emit_all(response.say(event.text))
            elif isinstance(event, AudioEvent):
                self.spoken = True
                self.emit_all(response.sound(event.audio.samples.numpy()))
            elif isinstance(event, CallEvent):
                self.emit_all(response.call(event.call))
        except ProtocolError as error:  # the conversation is full
            self.command(Stop(response_id))
            self.answer_ended(response_id, error.message, now)

    def answer_ended(self, response_id: str, failure: str | None, now: float, code: str = "model_error") -> None:
        """An answer is complete, or failed with a message for the client, and a code for its program."""
        self.now = now
        response = self.responses.pop(response_id, None)
        if response is None:
            return
        cut = response.answer is not None and response.answer.cut
        try:
            self.emit_all(response.close("incomplete" if cut else "completed") if failure is None else [])
        except ProtocolError as error:  # no room for what it calls
            failure = error.message
        if failure is not None:
            kind = "server_error" if code == "model_error" else "invalid_request_error"
            error = {"type": kind, "code": code, "message": failure}
            self._over(response, "failed", None, error)
        elif cut:
            self._over(response, "incomplete", "max_output_tokens")
        else:
            self._over(response, "completed")
        if self._owed and self.active() is None:
            self._owed = False
            self._ask({})

    def _over(self, response: Response, status: str, reason: str | None = None, error: Event | None = None) -> None:
        self.emit_all(response.finish(status, reason, error))
        self.emit({"type": "rate_limits.updated", "rate_limits": []})
        if response.conversation is not None:
            self.spoke_until = self.now + (response.seconds if status == "completed" else 0.0)


HANDLERS = {  # method names: a session of another kind has methods of its own
    "session.update": "_session_update",
    "input_audio_buffer.append": "audio_append",
    "input_audio_buffer.commit": "audio_commit",
    "input_audio_buffer.clear": "audio_clear",
    "conversation.item.create": "_item_create",
    "conversation.item.retrieve": "_item_retrieve",
    "conversation.item.truncate": "_item_truncate",
    "conversation.item.delete": "_item_delete",
    "response.create": "_response_create",
    "response.cancel": "_response_cancel",
}
