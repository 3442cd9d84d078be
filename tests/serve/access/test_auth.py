"""Who may come in: tokens, origins, names; and that a server that others reach has a token."""

import base64
import socket

import pytest
from starlette.testclient import TestClient, WebSocketDenialResponse

from antiphon.errors import ConfigError
from antiphon.serve.app import create_app
from antiphon.serve.settings import ServeConfig
from tests.serve.scripted import Scripted, serving

ROUTES = ["/health", "/metrics", "/v1/models", "/openapi.json", "/", "/v1/nothing"]


@pytest.fixture
def closed():
    with TestClient(create_app(Scripted(), ServeConfig(token="secret")), base_url="http://127.0.0.1") as client:
        yield client


@pytest.fixture
def open_client():
    config = ServeConfig(origins=("https://page.example",), hosts=("voice.example",))
    with TestClient(create_app(Scripted(), config), base_url="http://127.0.0.1:8000") as client:
        yield client


@pytest.mark.parametrize("route", ROUTES)
def test_every_route_needs_the_token(closed, route):
    refused = closed.get(route)
    assert refused.status_code == 401 and refused.json()["error"]["code"] == "invalid_api_key"
    assert closed.get(route, headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert closed.get(route, headers={"Authorization": "Bearer secret"}).status_code in (200, 404)


def test_a_browser_may_give_the_token_as_a_password(closed):
    credentials = base64.b64encode(b"me:secret").decode()
    assert closed.get("/health", headers={"Authorization": f"Basic {credentials}"}).status_code == 200
    assert closed.get("/health", headers={"Authorization": "Basic !!"}).status_code == 401
    assert "Basic" in closed.get("/health").headers["www-authenticate"]


def test_the_upgrade_needs_the_token_too(closed):
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Sec-WebSocket-Protocol": "openai-insecure-api-key.wrong"}):
        with (
            pytest.raises(WebSocketDenialResponse) as refused,
            closed.websocket_connect("ws://127.0.0.1/v1/realtime", headers=headers),
        ):
            pass
        assert refused.value.status_code == 401
    with closed.websocket_connect("ws://127.0.0.1/v1/realtime", headers={"Authorization": "Bearer secret"}) as socket:
        assert socket.receive_json()["type"] == "session.created"
    protocols = ["realtime", "openai-insecure-api-key.secret"]
    with closed.websocket_connect("ws://127.0.0.1/v1/realtime", subprotocols=protocols) as socket:
        assert socket.accepted_subprotocol == "realtime" and socket.receive_json()["type"] == "session.created"


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:9000", "https://page.example.evil"]
)
def test_pages_of_other_origins_may_not_call(open_client, origin):
    assert open_client.get("/health", headers={"Origin": origin}).status_code == 403
    with (
        pytest.raises(WebSocketDenialResponse) as refused,
        open_client.websocket_connect("ws://127.0.0.1/v1/realtime", headers={"Origin": origin}),
    ):
        pass
    assert refused.value.status_code == 403


@pytest.mark.parametrize("origin", ["http://127.0.0.1:8000", "https://page.example"])
def test_our_page_and_allowed_ones_may(open_client, origin):
    answer = open_client.get("/health", headers={"Origin": origin})
    assert answer.status_code == 200 and answer.headers["access-control-allow-origin"] == origin
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    assert open_client.options("/v1/chat/completions", headers=asked).status_code == 204


def test_a_name_that_is_not_ours_is_not_answered(open_client):
    assert open_client.get("/health", headers={"Host": "rebound.example:8000"}).status_code == 403
    for name in ("localhost:8000", "127.0.0.1", "[::1]:8000", "voice.example", "page.example"):
        assert open_client.get("/health", headers={"Host": name}).status_code == 200


@pytest.mark.parametrize(
    "fields",
    [
        {"host": "0.0.0.0"},
        {"certificate": "a.pem"},
        {"port": 70000},
        {"token": "two words"},
        {"sessions": 0},
        {"idle_seconds": 0},
    ],
)
def test_settings_that_cannot_be(fields):
    with pytest.raises(ConfigError):
        ServeConfig(**fields)


def test_a_body_is_bounded():
    config = ServeConfig(body_bytes=1000)
    with TestClient(create_app(Scripted(), config), base_url="http://127.0.0.1") as client:
        message = {"model": "m", "messages": [{"role": "user", "content": "x" * 2000}]}
        refused = client.post("/v1/chat/completions", json=message)
        assert refused.status_code == 413 and refused.json()["error"]["code"] == "too_large"

        def trickle():
            for _ in range(20):
                yield b"x" * 100

        assert client.post("/v1/chat/completions", content=trickle()).status_code == 413


@pytest.mark.parametrize(
    ("request_line", "more", "status"),
    [
        ("GET /v1/realtime", "", 401),
        ("GET /nowhere", "Authorization: Bearer t\r\n", 404),
        ("GET /v1/realtime", "Authorization: Bearer t\r\nOrigin: http://evil.example\r\n", 403),
        ("POST /v1/realtime", "Authorization: Bearer t\r\n", 400),
    ],
)
def test_a_refused_upgrade_is_one_quiet_line_of_the_log(request_line, more, status, capsys):
    with serving(Scripted(), ServeConfig(port=0, token="t")) as (address, _):
        host, port = address.split(":")
        with socket.create_connection((host, int(port)), timeout=10) as line:
            upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            key = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
            line.sendall(f"{request_line} HTTP/1.1\r\nHost: 127.0.0.1\r\n{upgrade}{key}{more}\r\n".encode())
            got = b""
            while data := line.recv(65536):
                got += data
        assert f" {status} ".encode() in got.partition(b"\r\n")[0]
    told = capsys.readouterr().err
    assert "ERROR" not in told and "Traceback" not in told
    assert told.count("a WebSocket of 127.0.0.1 is refused") == (status != 400)
