"""Pictures and videos from clients, over HTTP and in a Realtime session: what is taken, what is refused, and how."""

from __future__ import annotations

import base64
import io
import json
import struct
import zlib

import pytest
from PIL import Image
from starlette.testclient import TestClient

from antiphon.dialogue.backend import Hearing
from antiphon.serve.app import create_app
from antiphon.serve.errors import RequestError
from antiphon.serve.json_text import TextMeter
from antiphon.serve.realtime.commands import Answer, Finish
from antiphon.serve.realtime.items import messages
from antiphon.serve.seen import MAX_SEEN, read_seen
from antiphon.serve.settings import ServeConfig
from tests.encoders.vision.films import film
from tests.serve.client import connect, message, receive, run, send
from tests.serve.openai.test_http import RECORDING
from tests.serve.scripted import Scripted, speech
from tests.serve.session_bench import Bench


def url(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def png(color: str = "red", side: int = 60) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, side), color).save(file, "PNG")
    return file.getvalue()


def huge() -> bytes:
    """A head that promises 20,000 x 20,000 pixels."""
    head = struct.pack(">IIBBBBB", 20000, 20000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + head
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + chunk
        + struct.pack(">I", zlib.crc32(chunk))
        + struct.pack(">I", 8)
        + b"IDAT"
        + bytes(12)
    )


@pytest.fixture
def http():
    app = create_app(Scripted(sees=True), ServeConfig(text_bytes=4096, decoded_seconds=2.0))
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as made:
        made.backend = app.state.served.backend
        yield made


def ask(http, *parts: dict):
    return http.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": list(parts)}]})


def image(source: str) -> dict:
    return {"type": "image_url", "image_url": {"url": source, "detail": "low"}}


def test_a_chat_is_given_pictures_words_and_sound_in_their_order(http, tmp_path):
    clip = film(tmp_path / "clip.mp4", [0, 50, 100]).read_bytes()
    sound = {"type": "input_audio", "input_audio": {"data": base64.b64encode(RECORDING).decode(), "format": "wav"}}
    parts = [image(url(png())), {"type": "text", "text": "and"}, image(url(png("blue"))), sound]
    parts.append({"type": "video_url", "video_url": {"url": url(clip, "video/mp4")}})
    answer = ask(http, *parts)
    assert answer.status_code == 200, answer.text
    (given,) = http.backend.answers[-1].past
    assert [each["type"] for each in given.contents] == ["image", "text", "image", "text", "video"]
    assert given.contents[0]["image"] == png() and given.contents[2]["image"] == png("blue")
    assert given.text == "and level 0.25" and given.contents[3]["text"] == "level 0.25"
    assert given.contents[4]["video"] == clip


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("https://example.org/cat.png", "nothing is fetched"),
        ("file:///etc/passwd", "nothing is fetched"),
        ("data:image/png;base64,###", "base64"),
        (url(b"no picture"), "no picture that can be read"),
        (url(huge()), "too many pixels"),
    ],
)  # fmt: skip
def test_what_cannot_be_seen_is_a_clear_400(http, source, says):
    answer = ask(http, {"type": "text", "text": "look"}, image(source))
    error = answer.json()["error"]
    assert answer.status_code == 400 and says in error["message"], error
    assert error["param"] == "messages[0].content[1].image_url.url" and not http.backend.answers


def test_a_long_video_and_too_many_pictures_are_refused(http, tmp_path):
    clip = film(tmp_path / "clip.mp4", [0, 100, 200, 300]).read_bytes()
    answer = ask(http, {"type": "video_url", "video_url": {"url": url(clip, "video/mp4")}})
    assert answer.status_code == 400 and "3 s long; at most 2 s" in answer.json()["error"]["message"]
    answer = ask(http, *[image(url(png()))] * (MAX_SEEN + 1))
    assert answer.status_code == 400 and answer.json()["error"]["code"] == "array_above_max_length"


def test_a_model_that_sees_nothing_says_so():
    with TestClient(create_app(Scripted()), base_url="http://127.0.0.1") as http:
        answer = ask(http, image(url(png())))
    assert answer.status_code == 400 and "sees no pictures" in answer.json()["error"]["message"]


@pytest.mark.parametrize("size", [1, 7, 50, 100_000])
@pytest.mark.parametrize("name", ["url", "image_url", "video_url"])
def test_a_data_url_is_no_text_however_it_is_cut(name, size):
    shown = url(b"x" * 60_000, "video/mp4") if name == "video_url" else url(b"x" * 60_000).replace("/", "\\/")
    text = f'{{"a": "b", "{name}" : "{shown}", "c": "d"}}'.encode()
    meter = TextMeter(250)
    for start in range(0, len(text), size):
        meter.feed(text[start : start + size])
    meter = TextMeter(250)
    with pytest.raises(RequestError, match="Too much text"):
        meter.feed(json.dumps({name: "https://example.org/" + "x" * 300}).encode())


def test_a_session_is_given_pictures_and_keeps_them():
    bench = Bench(sees=True)
    content = [
        {"type": "input_image", "image_url": url(png()), "detail": "high"},
        {"type": "input_text", "text": "this"},
        {"type": "input_audio", "audio": base64.b64encode(speech(0.5)).decode()},
        {"type": "input_image", "image_url": url(png("blue"))},
    ]
    events = bench.send("conversation.item.create", item={"type": "message", "role": "user", "content": content})
    shown = events[0]["item"]["content"]
    assert shown[0] == {"type": "input_image", "detail": "high"} and shown[3]["detail"] == "auto" and len(shown[3]) == 2
    (item,) = bench.session.conversation.items
    heard = Hearing("", embeddings := object())
    assert bench.wanted(Finish)
    bench.session.heard(item.id, heard, None, bench.now)
    bench.send("response.create")
    (answer,) = bench.wanted(Answer)
    (given,) = messages(answer.turns)
    assert [each["type"] for each in given.contents] == ["image", "text", "audio", "image"]
    assert given.contents[2]["heard"] is embeddings and given.text == "this"
    bench.session.answer_ended(answer.response_id, None, bench.now)
    (told,) = [one for one in bench.send("conversation.item.retrieve", item_id=item.id) if "item" in one]
    assert [part.get("image_url") for part in told["item"]["content"]] == [url(png()), None, None, url(png("blue"))]
    bench.session.conversation.max_seen_bytes = 3 * len(png())
    (refused,) = bench.send("conversation.item.create", item=message("x") | {"content": content[:1] * 2})
    assert refused["error"]["code"] == "too_many_pictures" and len(bench.session.conversation.items) == 1


@pytest.mark.parametrize("sees", [False, True])
def test_what_a_session_cannot_see_is_told_and_it_goes_on(sees):
    bench = Bench(sees=sees)
    given = url(png()) if not sees else "https://example.org/cat.png"
    item = {"type": "message", "role": "user", "content": [{"type": "input_image", "image_url": given}]}
    (refused,) = bench.send("conversation.item.create", item=item)
    says = "nothing is fetched" if sees else "sees no pictures"
    assert refused["type"] == "error" and says in refused["error"]["message"]
    assert "item.content[0]" in refused["error"]["param"]
    assert bench.send("conversation.item.create", item=message("hello"))[0]["type"] == "conversation.item.added"


def test_over_the_wire_a_picture_is_answered():
    async def scenario(address, served):
        async with connect(address) as line:
            picture = {"type": "input_image", "image_url": url(png(side=2000))}
            item = {"type": "message", "role": "user", "content": [picture, {"type": "input_text", "text": "say seen"}]}
            await send(line, "conversation.item.create", item=item)
            await send(line, "response.create")
            done = (await receive(line, "response.done"))["response"]
            assert done["output"][0]["content"][0]["transcript"] == "seen"
            (given,) = served.backend.answers[-1].past
            assert given.contents[0]["image"] == png(side=2000)

    run(scenario, backend=Scripted(sees=True))


def test_a_picture_is_looked_at_before_it_is_decoded(monkeypatch):
    monkeypatch.setattr(Image.Image, "convert", lambda *_, **__: pytest.fail("it was decoded"))
    assert read_seen(url(png()), "image", "x", 1.0)["image"] == png()
