"""Firefox, by WebDriver BiDi: its own remote protocol, JSON over a WebSocket. It plays into nothing: without a sound
device it would wait for one."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

PREFERENCES = {
    "media.navigator.streams.fake": True,  # a camera, and a microphone that hears a tone
    "media.navigator.permission.disabled": True,
    "media.autoplay.default": 0,
    "intl.accept_languages": "en-GB",
    "datareporting.policy.dataSubmissionEnabled": False,
    "app.update.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "toolkit.telemetry.enabled": False,
}
PATIENCE = 60.0  # seconds; what takes longer has not happened


class Firefox:
    """One tab.

    Attributes:
        troubles: what the page has said was wrong.
    """

    def __init__(self, address: str):
        self.line = connect(f"{address}/session", max_size=None)
        self.ids = count(1)
        self.troubles: list[str] = []
        self.ask("session.new", capabilities={})
        self.ask("session.subscribe", events=["log.entryAdded"])
        self.tab = self.ask("browsingContext.getTree")["contexts"][0]["context"]

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """What the browser answers to a command."""
        number = next(self.ids)
        self.line.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            got = json.loads(self.line.recv(timeout=PATIENCE))
            if got.get("method") == "log.entryAdded" and got["params"]["level"] == "error":
                self.troubles.append(got["params"]["text"])
            if got.get("id") == number:
                assert got["type"] == "success", got
                return got["result"]

    def open(self, url: str) -> None:
        self.ask("browsingContext.navigate", context=self.tab, url=url, wait="complete")

    def size(self, width: int, height: int) -> None:
        self.ask("browsingContext.setViewport", context=self.tab, viewport={"width": width, "height": height})

    def evaluate(self, script: str) -> Any:
        """What an expression of the page's JavaScript gives, as if the user had asked for it."""
        target = {"context": self.tab}
        wrapped = f"(async () => JSON.stringify(await ({script})) ?? 'null')()"
        result = self.ask("script.evaluate", expression=wrapped, target=target, awaitPromise=True, userActivation=True)
        assert result["type"] == "success", result["exceptionDetails"]["text"]
        return json.loads(result["result"]["value"])

    def until(self, script: str) -> None:
        """Waits for what is to be true in the page."""
        deadline = time.monotonic() + PATIENCE
        while not self.evaluate(script):
            assert time.monotonic() < deadline, script
            time.sleep(0.05)


@contextmanager
def firefox(folder: Path) -> Iterator[Firefox]:
    """A browser, or the test is skipped.

    Args:
        folder: for its profile.
    """
    executable = shutil.which("firefox") or shutil.which("firefox-esr")
    if executable is None or shutil.which("pulseaudio") is None:
        pytest.skip("no Firefox, or no PulseAudio for it to play into (make browser)")
    (folder / "user.js").write_text(
        "".join(f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in PREFERENCES.items())
    )
    command = [executable, "--headless", "--no-remote", "--profile", str(folder), "--remote-debugging-port", "0"]
    log, socket = folder / "log.txt", folder / "pulse"
    protocol = f"module-native-protocol-unix socket={socket} auth-anonymous=1"
    sound = ["pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "-L", "module-null-sink", "-L", protocol]
    surroundings = {**os.environ, "PULSE_RUNTIME_PATH": str(folder / "runtime"), "PULSE_SERVER": f"unix:{socket}"}
    how: dict[str, Any] = {"env": surroundings, "stderr": subprocess.STDOUT}
    with (
        log.open("w") as output,
        subprocess.Popen(sound, stdout=subprocess.DEVNULL, **how) as sink,
        subprocess.Popen(command, stdout=output, **how) as process,
    ):
        try:
            deadline = time.monotonic() + PATIENCE
            while not (found := re.search(r"listening on (ws://\S+)", log.read_text())):
                assert time.monotonic() < deadline and process.poll() is None, log.read_text()
                time.sleep(0.1)
            browser = Firefox(found[1])
            yield browser
            browser.line.close()
        finally:
            process.terminate()
            sink.terminate()
