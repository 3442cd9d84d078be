"""What browsers are told with every answer."""

import re

import pytest
from starlette.testclient import TestClient, WebSocketDenialResponse

from antiphon.serve.access.headers import PAGE_POLICY
from antiphon.serve.app import create_app
from antiphon.serve.settings import ServeConfig
from tests.serve.scripted import Scripted


@pytest.fixture(scope="module")
def client():
    app = create_app(Scripted(), ServeConfig(token="secret"))
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        client.headers["Authorization"] = "Bearer secret"
        yield client


def is_guarded(headers) -> bool:
    return (
        headers["x-content-type-options"] == "nosniff"
        and headers["referrer-policy"] == "no-referrer"
        and "frame-ancestors 'none'" in headers["content-security-policy"]
        and "default-src 'none'" in headers["content-security-policy"]
    )


@pytest.mark.parametrize("route", ["/health", "/metrics", "/v1/models", "/openapi.json", "/v1/nothing", "/nothing.js"])
def test_every_answer_is_guarded_and_kept_by_nobody(client, route):
    answer = client.get(route)
    assert is_guarded(answer.headers) and answer.headers["cache-control"] == "no-store"
    refused = client.get(route, headers={"Authorization": "Bearer wrong"})
    assert refused.status_code == 401 and is_guarded(refused.headers)


def test_sound_and_failures_are_guarded(client):
    answer = client.post("/v1/audio/speech", json={"input": "one two", "response_format": "wav"})
    assert answer.status_code == 200 and is_guarded(answer.headers)
    broken = client.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": "say BREAK"}]})
    assert broken.status_code == 500 and is_guarded(broken.headers)


@pytest.mark.parametrize("path", ["/", "/index.html", "/app.js", "/style.css", "/icon.svg"])
def test_the_page_is_asked_for_anew_each_time(client, path):
    answer = client.get(path)
    assert answer.status_code == 200 and is_guarded(answer.headers)
    assert answer.headers["cache-control"] == "no-cache" and answer.headers["content-security-policy"] == PAGE_POLICY
    again = client.get(path, headers={"If-None-Match": answer.headers["etag"]})
    assert again.status_code == 304 and again.headers["cache-control"] == "no-cache"


def test_the_page_says_the_same_of_itself(client):
    said = re.search(r'Content-Security-Policy"\s+content="([^"]+)"', client.get("/").text)[1]
    assert f"{said}; frame-ancestors 'none'" == PAGE_POLICY


def test_a_refused_upgrade_is_guarded(client):
    with (
        pytest.raises(WebSocketDenialResponse) as refused,
        client.websocket_connect("ws://127.0.0.1/v1/realtime", headers={"Authorization": "Bearer wrong"}),
    ):
        pass
    assert refused.value.status_code == 401 and is_guarded(refused.value.headers)
