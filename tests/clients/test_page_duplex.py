"""The page with a model that hears and speaks at once: who is silenced by whom, and what is written of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch

from antiphon.audio.io import Audio
from antiphon.audio.speech import LevelActivity, SpeechDetector
from antiphon.dialogue.events import AudioEvent, SpeakingEvent, TextEvent
from antiphon.serve.state import LiveOnly
from tests.clients.test_page_talk import asked, idle, kinds, loud, said, saved, silence, talk  # noqa: F401

pytestmark = pytest.mark.slow

FRAME = 0.08
WORDS = [f"word{n}" for n in range(60)]


@dataclass
class ScriptedSlot:
    """Answers when the user falls silent, a word every three frames; gives way to who is loud for long enough."""

    give: Callable[[list], None]
    time: float = 0.0
    recent: list[bool] = field(default_factory=list)
    asked: bool = False
    saying: int | None = None  # frames of the answer that were said
    silent: bool = False
    muted: list[bool] = field(default_factory=list)
    speech: SpeechDetector = field(default_factory=lambda: SpeechDetector(LevelActivity(24000, 1920), 0.4))

    def push(self, frame: torch.Tensor) -> None:
        self.recent = [*self.recent, float(frame.square().mean()) > 1e-4][-12:]
        if self.saying is None and sum(self.recent) >= 6:
            self.asked = True
        if self.saying is None and self.asked and not any(self.recent[-5:]):
            self.saying, self.asked = 0, False
        elif self.saying is not None and sum(self.recent) >= 8:
            self.saying, self.asked = None, True
        events, sound = [], torch.zeros(1920)
        if self.saying is not None and not self.silent:
            sound = 0.2 * torch.sin(torch.arange(1920) * 0.1)
            if self.saying % 3 == 0:
                events.append(TextEvent(f" {WORDS[self.saying // 3]}", self.time))
            self.saying = self.saying + 1 if self.saying + 1 < 3 * len(WORDS) else None
        for found in self.speech.step(sound.numpy()):
            started = found.kind == "start"
            events.insert(0, SpeakingEvent(started, (found.at if started else found.quiet_from) / 24000))
        self.time += FRAME
        self.give([*events, AudioEvent(Audio(sound, 24000))])

    def mute(self, own: bool) -> None:
        self.muted.append(own)
        self.silent, self.saying = own, None

    def leave(self) -> None: ...


class ScriptedEngine:
    """Slots that share nothing."""

    frame_samples = 1920

    def __init__(self) -> None:
        self.slots: list[ScriptedSlot] = []

    def join(self, give: Callable[[list], None]) -> ScriptedSlot:
        self.slots.append(ScriptedSlot(give))
        return self.slots[-1]

    def close(self) -> None: ...


def watch(page) -> list[dict]:
    """What the server sends, from the next connection on, without its sound."""
    received: list[dict] = []

    def websocket(socket) -> None:
        socket.on("framereceived", lambda frame: '"delta"' in frame or received.append(json.loads(frame)))

    page.on("websocket", websocket)
    return received


def test_an_assent_stops_nothing_and_an_interruption_does(talk, asked, tmp_path):  # noqa: F811
    assent = asked[12000:19200]
    recording = torch.cat([silence(1), asked, silence(2.5), assent, silence(2), asked, silence(12)])
    engine = ScriptedEngine()
    with talk(LiveOnly("duplex"), recording, engine=engine) as opened:
        page, received = opened.page, watch(opened.page)
        page.click("#open-settings")
        page.select_option("#turns", "words")
        page.click("#close-settings")
        page.click("#talk")
        page.wait_for_selector(".turn.model .note:text('interrupted')")
        page.wait_for_selector(".turn.model:has-text('word3') >> nth=1")
        first = said(page, "model")[0].split()
        assert first == WORDS[: len(first)]
        assert len(first) * 3 * FRAME > 4.0  # it went on long after the assent
        assert kinds(opened.sent).count("conversation.item.truncate") == 1
        responses = [event["response"] for event in received if event["type"] == "response.done"]
        assert [response["status_details"]["reason"] for response in responses] == ["turn_detected"]
        assert page.locator(".turn.you .note").all_text_contents() == ["spoken; not written down"] * 2
        assert page.is_disabled("#typed") and page.is_disabled("#send")
        page.click("#stop")
        page.wait_for_selector(".turn.model[data-status=cut] >> nth=1")
        idle(page)
        assert engine.slots[0].muted[0] is True
        page.wait_for_selector("#transcript:focus")  # not lost with the button
        assert page.is_hidden("#problem") and not opened.troubles
        page.click("#end")
        page.wait_for_selector("#state[data-state=idle]")
        sound, text = saved(page, tmp_path)
        assert text.count("... (interrupted)") == 2
        assert loud(sound[0]) > 4.0


def test_for_a_model_that_reads_nothing_nothing_is_typed(talk):  # noqa: F811
    with talk(LiveOnly("duplex"), engine=ScriptedEngine()) as opened:
        page = opened.page
        page.wait_for_selector("#typed[placeholder*='listens to speech alone']:disabled")
        assert "takes turns by itself" in page.text_content("#about")
        assert page.locator("#examples q").count() == 3 and page.locator("#examples button").count() == 0


def test_the_real_one_answers_and_is_cut_only_where_it_gave_way(talk, asked, tmp_path):  # noqa: F811
    import antiphon
    from antiphon.dialogue.duplex.batched import BatchedEngine

    assent = asked[12000:19200]
    recording = torch.cat([silence(2), asked, silence(1.2), assent, silence(4), asked, silence(1), asked, silence(9)])
    engine = BatchedEngine(antiphon.load("mini-duplex").duplex)
    with talk(LiveOnly("mini-duplex"), recording, engine=engine) as opened:
        page, received = opened.page, watch(opened.page)
        page.click("#talk")
        page.wait_for_selector(".turn.model[data-status=done] .text:not(.waiting)")
        page.wait_for_timeout(12_000)  # whatever it makes of the rest
        page.click("#end")
        page.wait_for_selector("#state[data-state=idle]")
        created = next(event for event in received if event["type"] == "session.created")["session"]
        assert created["audio"]["input"]["turn_detection"]["interrupt_response"] is False
        gave_way = {
            item["id"]
            for event in received
            if event["type"] == "response.done" and event["response"]["status"] == "cancelled"
            for item in event["response"]["output"]
        }
        sent = [json.loads(frame) for frame in opened.sent]
        cut = {event["item_id"] for event in sent if event["type"] == "conversation.item.truncate"}
        assert gave_way <= cut and len(cut - gave_way) <= 1  # the other one: what we left in the middle of
        sound, text = saved(page, tmp_path)
        assert "Model: " in text and loud(sound[0]) > 1.0
        assert page.is_hidden("#problem") and not opened.troubles
