"""Takes the pictures of the page in the documentation anew, with the real model; for a machine that does nothing else.

python -m tests.serve.pictures docs/images
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch

import antiphon
from antiphon.audio.io import load
from antiphon.serve.settings import ServeConfig
from tests.clients.test_page_talk import browsing, idle, silence, type_in

QUESTION = Path(__file__).parents[2] / "examples" / "question.wav"


def take(folder: Path) -> None:
    """page.png, page-dark.png and page-full.png."""
    asked = load(QUESTION, sample_rate=24000).mono().samples.reshape(-1)
    # The second question comes while the first is being answered, and is answered to the end.
    recording = torch.cat([silence(1.0), asked, silence(2.0), asked, silence(60.0)])
    backend, config = antiphon.load("mini").backend, ServeConfig(port=0, sessions=4)
    size = {"width": 900, "height": 820}
    with (
        tempfile.TemporaryDirectory() as place,
        browsing(Path(place), backend, recording, config, viewport=size) as at,
    ):
        page = at.page
        page.click("#talk")
        page.wait_for_selector(".turn.model .note:text('interrupted')")
        page.wait_for_selector(".turn.model[data-status=done]")
        idle(page)
        _say(page, "Which city is the capital of France?")
        page.screenshot(path=folder / "page.png")
        idle(page)
        page.set_viewport_size({"width": 390, "height": 780})
        page.emulate_media(color_scheme="dark")
        _say(page, "What is the capital of Spain?")
        page.screenshot(path=folder / "page-dark.png")
        idle(page)
        page.click("#talk")
        page.wait_for_selector("#state[data-state=idle]")
        page.set_viewport_size(size)
        page.emulate_media(color_scheme="light")
        page.click("summary")
        while at.served.admission.live:
            page.wait_for_timeout(50)
        at.served.admission.live = 4
        page.click("#talk")
        page.wait_for_selector("#problem:has-text('The server is full')")
        page.wait_for_selector("#sessions:text('4 of 4')")
        page.screenshot(path=folder / "page-full.png", full_page=True)
        at.served.admission.live = 0


def _say(page, text: str) -> None:
    """Types, and waits until the answer has been heard for a while."""
    type_in(page, text)
    page.wait_for_selector("#state[data-state=model]")
    page.wait_for_timeout(1200)


if __name__ == "__main__":
    take(Path(sys.argv[1]))
