"""Chromium, with a recording as its microphone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
)


@contextmanager
def chromium(microphone: Path) -> Iterator:
    """A browser of Playwright's, or the test is skipped.

    Args:
        microphone: the recording (wav), heard once from when a page opens its microphone.
    """
    playwright = pytest.importorskip("playwright.sync_api")
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if executable is None:
        pytest.skip("no Chromium (make browser)")
    flags = [*FLAGS, f"--use-file-for-fake-audio-capture={microphone}%noloop"]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=executable, args=flags, ignore_default_args=["--headless"])
        yield browser
        browser.close()
