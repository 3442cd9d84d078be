"""The page in a browser, with a recorded voice as its microphone: what arrives in its output, what it says is wrong."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from antiphon.audio.io import Audio, load
from antiphon.encoders.vision.pictures import load_picture
from antiphon.serve.settings import ServeConfig
from tests.clients.browser import chromium
from tests.serve.scripted import Scripted, serving

pytestmark = pytest.mark.slow

LONG = "say " + " ".join(f"word{n}" for n in range(100))
PATIENCE = 60_000  # milliseconds; what takes longer has not happened


def silence(seconds: float) -> torch.Tensor:
    return torch.zeros(int(24000 * seconds))


@pytest.fixture(scope="module")
def asked(question) -> torch.Tensor:
    """The recorded question, at 24 kHz."""
    return load(question, sample_rate=24000).mono().samples.reshape(-1)


@contextmanager
def browsing(
    folder: Path, backend, recording: torch.Tensor | None = None, config=None, before: str = "", engine=None, **options
) -> Iterator[SimpleNamespace]:
    """The page of a server, in a browser with a recording, float32 [N] at 24 kHz, as its microphone.

    Args:
        folder: for that recording.
        backend, config, engine: of the server.
        before: a script that runs before the page's.
        options: of Playwright's `new_page`.
    """
    wav = folder / "microphone.wav"
    Audio(silence(1.0) if recording is None else recording, 24000).save(wav)
    options = {"viewport": {"width": 900, "height": 860}, **options}
    with serving(backend, config, engine) as (address, served), chromium(wav) as browser:
        page = browser.new_page(**options)
        page.set_default_timeout(PATIENCE)
        asked_for, troubles, sent = [], [], []
        page.on("request", lambda request: asked_for.append(request.url))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("console", lambda line: line.type == "error" and troubles.append(line.text))

        def websocket(socket) -> None:
            asked_for.append(socket.url)
            socket.on("framesent", lambda frame: sent.append(frame))

        page.on("websocket", websocket)
        if before:
            page.add_init_script(before)
        page.goto(f"http://{address}/")
        page.wait_for_selector("#model option, #problem:not([hidden])", state="attached")
        yield SimpleNamespace(
            page=page, served=served, asked_for=asked_for, troubles=troubles, sent=sent, address=address
        )


@pytest.fixture
def talk(tmp_path):
    """`browsing`, with a folder."""
    return partial(browsing, tmp_path)


def saved(page, tmp_path: Path) -> tuple[np.ndarray, str]:
    """What the page saves: samples [2, N] (model, user), and the text."""
    files = []
    for button in ("#save-sound", "#save-words"):
        if not page.is_visible(button):
            page.click("#open-save")
        with page.expect_download() as download:
            page.click(button)
        files.append(tmp_path / download.value.suggested_filename)
        download.value.save_as(files[-1])
    sound = load(files[0], mono=False)
    assert sound.sample_rate == 24000
    return sound.samples.numpy(), files[1].read_text()


def loud(samples: np.ndarray, level: float = 0.003) -> float:
    """Seconds in which something is to be heard."""
    blocks = samples[: len(samples) // 480 * 480].reshape(-1, 480)
    return float((np.sqrt((blocks**2).mean(axis=1)) > level).sum() * 0.02)


def said(page, who: str) -> list[str]:
    return page.locator(f".turn.{who} .text").all_text_contents()


def idle(page) -> None:
    """Waits until nobody speaks or thinks."""
    page.wait_for_selector("#state[data-state=ready], #state[data-state=listening]")


def type_in(page, text: str) -> None:
    page.fill("#typed", text)
    page.press("#typed", "Enter")


def kinds(sent: list[str]) -> list[str]:
    """The types of the events that were sent."""
    return [json.loads(frame)["type"] for frame in sent]


def test_a_spoken_question_is_answered_aloud_and_saved(talk, asked, tmp_path):
    recording = torch.cat([silence(1.0), asked, silence(3.0)])
    with talk(Scripted(hears="What is the capital of Italy?"), recording) as opened:
        page = opened.page
        page.click("#talk")
        page.wait_for_selector(".turn.model[data-status=done]")
        idle(page)
        assert said(page, "you") == ["What is the capital of Italy?"]
        assert said(page, "model") == ["Rome is the capital of Italy."]
        assert page.text_content("#latency").endswith(" s")
        page.wait_for_selector("#sessions:text('1 of 4')", state="attached")
        page.click("#end")
        page.wait_for_selector("#state[data-state=idle]")
        sound, text = saved(page, tmp_path)
        assert "You: What is the capital of Italy?" in text and "Model: Rome is the capital of Italy." in text
        assert loud(sound[1]) > 1.0  # the question
        assert not opened.troubles
        hosts = {url.split("/")[2] for url in opened.asked_for}
        assert hosts == {opened.address}
    heard = opened.served.backend.heard[-1]
    assert loud(heard.numpy()) > 1.0


def test_who_speaks_up_is_heard_at_once(talk, asked, tmp_path):
    """Of the silence that the user leaves, the patience takes four seconds; the answer is longer than the rest."""
    recording = torch.cat([silence(1.0), asked, silence(7.0), asked, silence(8.0)])
    words = [f"word{n}" for n in range(40)]
    with talk(Scripted(words, frames=3, hears="level 0.25"), recording) as opened:
        page = opened.page
        page.click("#talk")
        page.wait_for_selector(".turn.model .note:text('interrupted')")
        page.wait_for_selector(".turn.model .unsaid:text('word39')")
        page.wait_for_selector(".turn.model >> nth=1")
        first = said(page, "model")[0].split()
        assert first == words[: len(first)] and 0 < len(first) < 40
        page.click("#stop")
        page.click("#end")
        page.wait_for_selector("#state[data-state=idle]")
        _, text = saved(page, tmp_path)
        assert "... (interrupted)" in text
        sent = kinds(opened.sent)
        assert sent.count("conversation.item.truncate") == 2  # by voice, and by the button


def test_typing_is_answered_too_and_escape_stops_the_answer(talk, tmp_path):
    with talk(Scripted(pace=0.02)) as opened:
        page = opened.page
        type_in(page, "Which city is it?")
        page.wait_for_selector(".turn.model[data-status=done]")
        assert said(page, "model") == ["Rome is the capital of Italy."]
        assert "input_audio_buffer.append" not in kinds(opened.sent)  # nobody has asked for the microphone
        idle(page)  # it was played to its end: typing would cut it
        type_in(page, LONG)
        page.wait_for_selector("#state[data-state=model]")
        page.keyboard.press("Escape")
        page.wait_for_selector(".turn.model:nth-child(4)[data-status=cut]")
        idle(page)
        assert "response.cancel" in kinds(opened.sent)
        type_in(page, "say And on it goes")
        page.wait_for_selector(".turn.model:nth-child(6)[data-status=done]")
        assert said(page, "model")[-1] == "And on it goes"
        assert not opened.troubles


def test_turns_by_hand(talk, asked):
    recording = torch.cat([asked, silence(0.3)] * 10)
    with talk(Scripted(hears="A question"), recording) as opened:
        page = opened.page
        page.click("#open-settings")
        page.select_option("#turns", "button")
        page.click("#close-settings")
        page.click("#talk")
        page.click("#mute:has-text('Speak')")
        page.wait_for_timeout(1500)
        page.click("#mute:has-text('Done')")
        page.wait_for_selector(".turn.model[data-status=done]")
        assert said(page, "you") == ["A question"]


def test_a_muted_microphone_stays_muted_when_headphones_are_put_on(talk, asked):
    with talk(Scripted(), torch.cat([asked] * 10)) as opened:
        page = opened.page
        page.click("#talk")
        page.click("#mute")
        page.wait_for_timeout(500)
        page.click("#open-settings")
        before = len(opened.sent)
        page.check("#headphones")
        page.wait_for_timeout(1500)
        page.click("#close-settings")
        sounds = [event["audio"] for frame in opened.sent[before:] if "audio" in (event := json.loads(frame))]
        assert len(sounds) > 10 and not any(base64.b64decode(sound).strip(b"\0") for sound in sounds)
        page.click("#mute")
        page.wait_for_timeout(1000)
        assert base64.b64decode(json.loads(opened.sent[-1])["audio"]).strip(b"\0")


def test_a_full_server_says_so_and_lets_in_later(talk):
    with talk(Scripted(), config=ServeConfig(port=0, sessions=1)) as opened:
        page = opened.page
        opened.served.admission.live = 1
        page.click("#talk")
        page.wait_for_selector("#problem:has-text('The server is full')")
        assert page.get_attribute("#state", "data-state") == "idle"
        opened.served.admission.live = 0
        page.click("#problem-retry")
        page.wait_for_selector("#state[data-state=listening]")


@pytest.mark.parametrize(
    "failing, words",
    [
        ("() => Promise.reject(new DOMException('', 'NotAllowedError'))", "The microphone was refused"),
        ("() => Promise.reject(new DOMException('', 'NotFoundError'))", "No microphone was found"),
        ("undefined", "only to pages from this machine or over https"),
    ],
)
def test_without_a_microphone_one_can_type(talk, failing, words):
    before = f"Object.defineProperty(MediaDevices.prototype, 'getUserMedia', {{ value: {failing} }})"
    with talk(Scripted(), before=before) as opened:
        page = opened.page
        page.click("#talk")
        page.wait_for_selector(f"#problem:has-text('{words}')")
        type_in(page, "And so?")
        page.wait_for_selector(".turn.model[data-status=done]")


def test_a_token_is_asked_for(talk):
    """The browser itself asks for it as a password, to show the page; where it doesn't pass it on, the page asks."""
    forget = "const fetched = fetch; window.fetch = (url, how) => fetched(url, { ...how, credentials: 'omit' });"
    config = ServeConfig(port=0, token="secret")
    credentials = {"username": "me", "password": "secret"}
    with talk(Scripted(), config=config, before=forget, http_credentials=credentials) as opened:
        page = opened.page
        page.wait_for_selector("#problem:has-text('asks for a token')")
        page.fill("#token", "secret")
        page.press("#token", "Enter")
        page.wait_for_selector("#problem", state="hidden")
        type_in(page, "And so?")
        page.wait_for_selector(".turn.model[data-status=done]")


def test_the_password_that_the_browser_was_given_is_enough(talk):
    config = ServeConfig(port=0, token="secret")
    with talk(Scripted(), config=config, http_credentials={"username": "", "password": "secret"}) as opened:
        type_in(opened.page, "And so?")
        opened.page.wait_for_selector(".turn.model[data-status=done]")


def test_a_lost_connection_comes_back_and_remembers(talk):
    backend = Scripted()
    with talk(backend) as opened:
        page = opened.page
        type_in(page, "My name is Ann.")
        page.wait_for_selector(".turn.model[data-status=done]")
        idle(page)
        for socket in list(opened.served.live):
            socket.loop.call_soon_threadsafe(socket.transport.abort)
        page.wait_for_selector("#problem:has-text('connection was lost')")
        page.wait_for_selector("#problem", state="hidden")
        type_in(page, "What is my name?")
        page.wait_for_selector(".turn.model:nth-child(4)[data-status=done]")
        past = [message.text for message in backend.answers[-1].past]
        assert past == ["My name is Ann.", "Rome is the capital of Italy.", "What is my name?"]


def test_everything_is_reached_by_the_keyboard(talk):
    with talk(Scripted()) as opened:
        page = opened.page

        def reached(count: int) -> list[str]:
            found = []
            for _ in range(count):
                page.keyboard.press("Tab")
                found.append(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
            return found

        page.wait_for_selector("#examples button")
        page.click("h1")
        examples = page.locator("#examples button").all_text_contents()
        assert len(examples) == 3
        order = ["open-settings", "talk", "Details", *examples, "transcript", "typed", "send"]
        assert reached(len(order)) == order
        page.focus("#open-settings")
        page.keyboard.press("Enter")
        order = ["model", "voice", "language", "turns", "instructions"]
        order += ["microphone", "try-microphone", "volume", "headphones", "announce"]  # tools: this model has none
        assert reached(len(order)) == order
        page.keyboard.press("Escape")
        assert page.evaluate("document.activeElement.id") == "open-settings"
        page.focus("#talk")
        page.keyboard.press("Enter")
        page.wait_for_selector("#state[data-state=listening]")
        assert page.is_disabled("#model")


def test_the_model_s_answer_is_heard_and_understood(talk, mini, asked, tmp_path):
    from antiphon.evals.asr_judge import AsrJudge

    recording = torch.cat([silence(1.0), asked, silence(20.0)])
    with talk(mini.backend, recording) as opened:
        page = opened.page
        page.click("#talk")
        page.wait_for_selector(".turn.model[data-status=done]")
        idle(page)
        page.click("#end")
        page.wait_for_selector("#state[data-state=idle]")
        sound, text = saved(page, tmp_path)
    understood = AsrJudge.from_pretrained().transcribe([Audio(torch.from_numpy(sound[0].copy()), 24000)])[0]
    assert "Rome" in text and "the capital of italy" in understood.lower(), (text, understood)


def test_of_the_real_model_s_answer_stays_what_was_played(talk, mini):
    from antiphon.dialogue.half_duplex import Message

    question, backend = "Tell me about the moon.", mini.backend
    whole = backend.chat().answer([Message("user", question)])
    list(whole.events())
    with talk(backend) as opened:
        page = opened.page
        for wait in (200, 1000):
            type_in(page, question)
            page.wait_for_selector("#state[data-state=model]")
            page.wait_for_timeout(wait)
            page.keyboard.press("Escape")
            page.wait_for_selector(".turn.model .unsaid:not(:empty)")
            events = [json.loads(frame) for frame in opened.sent]
            played = [event["audio_end_ms"] for event in events if event["type"] == "conversation.item.truncate"]
            assert played[-1] > 0 and said(page, "model") == [whole.until(played[-1] / 1000)]
            page.reload()
            page.wait_for_selector("#model option", state="attached")


def test_a_model_that_sees_is_shown_a_picture(talk, tmp_path):
    file = tmp_path / "wide.png"
    Image.new("RGBA", (3000, 1000), (255, 0, 0, 255)).save(file)
    with talk(Scripted(sees=True)) as opened:
        page = opened.page
        page.set_input_files("#picture", file)
        page.wait_for_selector(".turn.you .note:text('shows wide.png')")
        type_in(page, "say red")
        page.wait_for_selector(".turn.model[data-status=done]")
        assert said(page, "model") == ["red"] and not opened.troubles
        (seen, asked_of) = opened.served.backend.answers[-1].past
        picture = load_picture(seen.contents[0]["image"])
        assert asked_of.text == "say red" and 900_000 < picture.shape[1] * picture.shape[2] <= 1_010_000
        assert (picture.float().mean((1, 2)) - torch.tensor([254.0, 0.0, 0.0])).abs().max() < 4
        (tmp_path / "no.png").write_bytes(b"no picture")
        page.set_input_files("#picture", tmp_path / "no.png")
        page.wait_for_selector("#problem:not([hidden])")
        assert "no.png is no picture" in page.text_content("#problem-text")
    with talk(Scripted()) as opened:
        assert not opened.page.is_visible("#show")
