"""The image without Docker: what its file says is done, step by step, in an environment of its own."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STEP = re.compile(r"^(?P<name>[A-Z]+) (?P<rest>(?:.*\\\n)*.*)$", re.MULTILINE)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def steps() -> list[tuple[str, str]]:
    text = (ROOT / "examples" / "serve" / "Dockerfile").read_text()
    return [(step["name"], step["rest"].replace("\\\n", " ")) for step in STEP.finditer(text)]


@pytest.fixture(scope="module")
def installed(steps, tmp_path_factory) -> Path:
    """The environment, after COPY and RUN. What makes the image's user is for a machine of its own and left out."""
    source, folder = tmp_path_factory.mktemp("src"), tmp_path_factory.mktemp("image") / "venv"
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    for name in files.split("\0"):
        if name and (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, source / name)
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    (run,) = [rest for name, rest in steps if name == "RUN"]
    install, *others = [command.strip() for command in run.split("&&")]
    assert install.startswith("pip install ") and {each.split()[0] for each in others} == {"useradd", "mkdir", "chown"}
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(install, shell=True, cwd=source, check=True, env={**os.environ, "PATH": path}, timeout=900)
    return folder


def healthy(request: urllib.request.Request) -> bool:
    """Whether it answers within a minute."""
    for _ in range(60):
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status == 200
        except urllib.error.URLError:
            time.sleep(1)
    return False


def test_the_server_that_the_image_starts_answers(steps, installed, tmp_path):
    ours = dict(pair.split("=", 1) for name, rest in steps if name == "ENV" for pair in rest.split())
    assert ours["PYTHONUNBUFFERED"] == "1" and Path(ours["ANTIPHON_CACHE"]).is_absolute()
    (command,) = [json.loads(rest) for name, rest in steps if name == "CMD"]
    token = secrets.token_hex(8)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    environment |= {"PYTHONUNBUFFERED": "1", "ANTIPHON_TOKEN": token, "OMP_NUM_THREADS": "1"}
    program, *rest = command
    server = subprocess.Popen(
        [installed / "bin" / program, *rest, "--model", "mini", "--port", "0"],
        cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert server.stdout is not None
        port = re.search(r":(\d+)/$", server.stdout.readline().strip())
        assert port is not None, "the server didn't start"
        place = f"http://127.0.0.1:{port[1]}"
        header = {"Authorization": f"Bearer {token}", "Host": "any.name"}
        assert healthy(urllib.request.Request(f"{place}/health", headers=header))
        with urllib.request.urlopen(urllib.request.Request(f"{place}/", headers=header)) as page:
            assert b"<html" in page.read()
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"{place}/v1/models")
        asked = {"model": "mini", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}
        request = urllib.request.Request(
            f"{place}/v1/chat/completions", json.dumps(asked).encode(), header | {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=120) as answer:
            assert json.load(answer)["choices"][0]["message"]["content"]
    finally:
        server.terminate()
        assert server.wait(timeout=60) in (0, -signal.SIGTERM)  # the image's stop signal: it ends its work and goes
