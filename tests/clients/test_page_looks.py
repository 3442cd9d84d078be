"""The page as it is seen and handled: accessible in every state, on a telephone and a desktop; what is marked, kept,
played again and saved."""

from __future__ import annotations

import json
import re
import time
from itertools import product

import pytest
import torch

from antiphon.audio.io import load
from tests.clients.axe import violations
from tests.clients.test_page_talk import LONG, asked, idle, kinds, loud, said, silence, talk, type_in  # noqa: F401
from tests.serve.scripted import Scripted

pytestmark = pytest.mark.slow

TELEPHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1280, "height": 800}
MOST_BYTES = 150_000


def settled(page) -> None:
    page.evaluate("Promise.all(document.getAnimations().map((each) => each.finished))")


def everywhere(page, state: str) -> list[str]:
    """Violations in a state, as a telephone and a desktop show it, light and dark; and what doesn't fit."""
    found = []
    for size, scheme in product((TELEPHONE, DESKTOP), ("light", "dark")):
        page.set_viewport_size(size)
        page.emulate_media(color_scheme=scheme)
        settled(page)
        where = f"{state}, {scheme}, {size['width']}"
        found += [f"{where}: {each}" for each in violations(page)]
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            found.append(f"{where}: wider than the screen")
    return found


def test_nothing_is_wrong_by_axe_in_any_state(talk, asked):  # noqa: F811
    recording = torch.cat([silence(2.0), asked, silence(60.0)])
    words = [f"word{n}" for n in range(400)]
    with talk(Scripted(words, frames=4, hears="A question", sees=True, calls_functions=True), recording) as opened:
        page, found = opened.page, []
        page.wait_for_selector("#examples button")
        found += everywhere(page, "idle")
        page.click("#open-settings")
        found += everywhere(page, "settings")
        page.click("#close-settings")
        page.click("#open-camera")
        page.wait_for_selector("#camera[open]")
        found += everywhere(page, "camera")
        page.click("#close-camera")
        page.click("#talk")
        page.wait_for_selector("#state[data-state=model]")
        page.click("summary")
        found += everywhere(page, "speaking")
        page.click("#open-save")
        found += everywhere(page, "saving")
        page.keyboard.press("Escape")
        page.click("#stop")
        page.wait_for_selector(".turn.model[data-status=cut]")
        found += everywhere(page, "interrupted")
        page.click("#end")
        page.wait_for_selector("#state[data-state=idle]")
        found += everywhere(page, "ended")
        opened.served.admission.live = opened.served.admission.sessions
        page.click("#talk")
        page.wait_for_selector("#problem:has-text('The server is full')")
        found += everywhere(page, "full")
        opened.served.admission.live = 0
    assert not found, "\n".join(found)


@pytest.mark.parametrize("locale, idle_words", [("en-GB", "Not connected"), ("ru-RU", "Нет соединения")])
def test_it_speaks_the_browser_s_language_and_asks_nobody_else(talk, locale, idle_words):  # noqa: F811
    with talk(Scripted(), locale=locale) as opened:
        page = opened.page
        page.wait_for_selector(f"#state-text:text('{idle_words}')")
        page.wait_for_selector("#examples button")
        assert page.evaluate("document.documentElement.lang") == locale[:2]
        type_in(page, "And so?")
        page.wait_for_selector(".turn.model[data-status=done]")
        loaded = page.evaluate(
            "['navigation', 'resource'].flatMap((kind) => performance.getEntriesByType(kind))"
            ".map(({ name, decodedBodySize }) => [name, decodedBodySize])"
        )
        files = {url: size for url, size in loaded if re.search(r"/$|\.\w+$", url)}
        assert len(files) > 20 and min(files.values()) > 0 and sum(files.values()) <= MOST_BYTES
        assert {url.split("/")[2] for url in opened.asked_for} == {opened.address}
        assert not opened.troubles
        if locale == "ru-RU":  # nothing has stayed in English but the names
            text = page.inner_text("header, .stage") + page.inner_text(".controls")
            assert not re.sub(r"Antiphon|scripted|[^a-zA-Z]", "", text), text


def until(page, expression: str) -> None:
    """Waits for what is to be true in the page (Playwright's own way is forbidden by the page's policy)."""
    deadline = time.monotonic() + 60
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, expression
        page.wait_for_timeout(50)


def marked(page) -> str:
    return page.evaluate("[...CSS.highlights.get('sounding')].map(String).join()")


def test_the_word_that_sounds_is_marked_and_the_answer_can_be_had_again(talk, tmp_path):  # noqa: F811
    words = [f"word{n}" for n in range(30)]
    with talk(Scripted(words, frames=3), accept_downloads=True) as opened:
        page = opened.page
        opened.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        type_in(page, "level 0.25")
        page.wait_for_selector("#state[data-state=model]")
        seen = []
        while page.get_attribute("#state", "data-state") == "model":
            seen.append(marked(page))
            page.wait_for_timeout(100)
        heard = [int(word.removeprefix("word")) for word in seen if word]
        assert heard == sorted(heard) and heard[-1] - heard[0] >= 5  # a slow machine looks late
        assert marked(page) == ""
        foot = page.locator(".turn.model .foot")
        foot.get_by_role("button", name="Copy").click()
        page.wait_for_selector("#news:text('Copied.')", state="attached")
        assert page.evaluate("navigator.clipboard.readText()") == " ".join(words)
        with page.expect_download() as download:
            foot.get_by_role("button", name="Save as sound").click()
        download.value.save_as(tmp_path / "answer.wav")
        sound = load(tmp_path / "answer.wav", mono=False)
        assert sound.samples.shape[0] == 1 and abs(sound.samples.shape[1] / 24000 - 30 * 3 * 0.08) < 0.2
        assert loud(sound.samples[0].numpy()) > 6.8
        foot.get_by_role("button", name="Play again").click()
        page.wait_for_selector("#state-text:text('Playing again')")
        until(page, "CSS.highlights.get('sounding').size > 0")
        page.keyboard.press("Escape")
        page.wait_for_selector("#state-text:text('Ready')")
        page.click("#open-save")
        with page.expect_download() as download:
            page.click("#save-subtitles")
        download.value.save_as(tmp_path / "said.srt")
        cues = re.findall(r"(\d+:\d+:\d+),(\d+) --> .*\nModel: (.*)", (tmp_path / "said.srt").read_text())
        assert [word for _, _, line in cues for word in line.split()] == words
        assert not opened.troubles


def test_a_new_conversation_forgets_unless_it_is_taken_back(talk):  # noqa: F811
    backend = Scripted()
    with talk(backend) as opened:
        page = opened.page
        type_in(page, "My name is Ann.")
        page.wait_for_selector(".turn.model[data-status=done]")
        idle(page)
        page.click("#end")
        page.wait_for_selector("#talk:has-text('Continue')")
        page.click("#new")
        page.wait_for_selector("#empty:not([hidden])")
        assert said(page, "you") == [] and page.text_content("#talk-label") == "Start talking"
        page.click("#problem-retry:text('Undo')")
        assert said(page, "you") == ["My name is Ann."]
        page.click("#new")
        page.click("#examples button >> nth=0")
        page.wait_for_selector(".turn.model[data-status=done]")
        assert [message.text for message in backend.answers[-1].past] == ["Why is the sky blue?"]


def test_the_end_of_the_conversation_stays_in_view(talk):  # noqa: F811
    with talk(Scripted(pace=0.0), viewport=TELEPHONE) as opened:
        page = opened.page
        type_in(page, LONG)
        page.wait_for_selector(".turn.model .text:has-text('word99')")
        left = "[document.querySelector('#transcript')].map((l) => l.scrollHeight - l.scrollTop - l.clientHeight)[0]"
        assert page.evaluate("document.querySelector('#transcript').clientHeight") > 0.4 * TELEPHONE["height"]
        for size in (DESKTOP, {"width": 844, "height": 390}, {"width": 320, "height": 568}, TELEPHONE):
            page.set_viewport_size(size)
            page.wait_for_timeout(200)
            assert page.evaluate(left) < 2, size
            for needed in ("#end", "#stop", "#typed", "#send"):  # nothing is off the screen
                box = page.locator(needed).bounding_box()
                assert box["x"] >= 0 and box["x"] + box["width"] <= size["width"]
                assert box["y"] >= 0 and box["y"] + box["height"] <= size["height"], (needed, size)
        page.click("summary")
        page.wait_for_timeout(200)
        assert page.evaluate(left) < 2
        page.evaluate("document.querySelector('#transcript').scrollTop = 0")
        page.wait_for_timeout(100)
        page.set_viewport_size(DESKTOP)
        page.set_viewport_size(TELEPHONE)
        page.wait_for_timeout(200)
        assert page.evaluate("document.querySelector('#transcript').scrollTop") < 100  # who reads isn't torn away


def test_instructions_language_and_tools_reach_the_model_and_calls_are_shown(talk):  # noqa: F811
    backend = Scripted(calls_functions=True)
    with talk(backend) as opened:
        page = opened.page
        page.wait_for_selector("#tool-calculator:enabled", state="attached")
        page.click("#open-settings")
        page.fill("#instructions", "Be brief.")
        page.check("#tool-calculator")
        page.keyboard.press("Escape")
        type_in(page, 'say Let me see. call calculator {"expression": "6*7"}')
        page.wait_for_selector(".turn.tool:has-text('→ 42')")
        page.wait_for_selector(".turn.model .text:text('It says 42')")
        first, second = backend.answers
        assert first.instructions == second.instructions == "Be brief."
        assert first.functions.names == ["calculator"] or set(first.functions.names) == {"calculator"}
        update = json.loads(next(frame for frame in opened.sent if "session.update" in frame))["session"]
        assert update["audio"]["input"]["transcription"]["language"] == "en"
        page.reload()
        page.wait_for_selector("#tool-calculator:checked", state="attached")
        assert page.input_value("#instructions") == "Be brief." and not opened.troubles


def test_the_microphone_is_tried_without_a_call(talk, asked):  # noqa: F811
    with talk(Scripted(), torch.cat([asked] * 10)) as opened:
        page = opened.page
        page.click("#open-settings")
        page.click("#try-microphone")
        until(page, "document.querySelector('#meter').value > 0.3")
        assert not kinds(opened.sent) and page.locator("#microphone option").count() > 1
        page.keyboard.press("Escape")
        page.wait_for_selector("#try-microphone:has-text('Try it')", state="attached")
        assert page.is_disabled("#save-sound")  # nothing was recorded


def still(page) -> bool:
    """The voice isn't drawn anew while nothing happens."""
    picture = "document.querySelector('#living').toDataURL()"
    before = page.evaluate(picture)
    page.wait_for_timeout(400)
    return page.evaluate(picture) == before


def test_the_voice_moves_unless_less_motion_is_wanted(talk):  # noqa: F811
    with talk(Scripted()) as opened:
        page = opened.page
        assert not still(page)
        page.emulate_media(reduced_motion="reduce")
        page.wait_for_timeout(200)
        assert still(page)
        pictures = [page.evaluate("document.querySelector('#living').toDataURL()")]
        type_in(page, LONG)
        page.wait_for_selector("#state[data-state=model]")
        assert still(page)
        pictures.append(page.evaluate("document.querySelector('#living').toDataURL()"))
        assert pictures[0] != pictures[1]


def test_a_picture_of_the_camera_is_shown(talk):  # noqa: F811
    backend = Scripted(sees=True)
    with talk(backend) as opened:
        page = opened.page
        page.click("#open-camera")
        until(page, "document.querySelector('#viewfinder').videoWidth > 0")
        page.click("#take-picture")
        page.wait_for_selector(".turn.you canvas.picture")
        type_in(page, "say green")
        page.wait_for_selector(".turn.model[data-status=done]")
        assert backend.answers[-1].past[0].contents[0]["type"] == "image" and not opened.troubles
        assert page.evaluate("document.querySelector('#viewfinder').srcObject") is None  # the camera is off
