"""A sound card made of software: who plays into its microphone is heard, and what its loudspeaker gives is recorded."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

RATE = 24000
MODULES = (
    "module-null-sink sink_name=loudspeaker rate={rate}",
    "module-null-sink sink_name=microphone rate={rate}",
    "module-native-protocol-unix socket={socket} auth-anonymous=1",
)


class SoundCard:
    """PulseAudio's, of this process and those that it starts."""

    def __init__(self, folder: Path):
        self.folder = folder

    def play(self, recording: Path) -> None:
        """Says a sound file into the microphone, and waits until it is over."""
        subprocess.run(["paplay", "--device=microphone", recording], check=True)

    @contextmanager
    def recording(self) -> Iterator[list[NDArray[np.int16]]]:
        """A list that holds at the end what the loudspeaker gave, [samples] at `RATE`."""
        path, found = self.folder / "loudspeaker.raw", []
        how = ["--device=loudspeaker.monitor", "--format=s16le", f"--rate={RATE}", "--channels=1", "--latency-msec=50"]
        with path.open("wb") as file, subprocess.Popen(["parec", *how], stdout=file) as process:
            try:
                yield found
            finally:
                process.terminate()
        found.append(np.frombuffer(path.read_bytes(), np.int16))


@contextmanager
def sound_card(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SoundCard]:
    """One in `folder`, or the test is skipped; programs that are started then take it for the machine's only one."""
    program = shutil.which("pulseaudio")
    if program is None or shutil.which("paplay") is None:
        pytest.skip("no PulseAudio (make browser)")
    socket = folder / "card"
    loaded = [part for each in MODULES for part in ("-L", each.format(rate=RATE, socket=socket))]
    monkeypatch.setenv("PULSE_SERVER", f"unix:{socket}")
    own = {**os.environ, "HOME": str(folder), "XDG_RUNTIME_DIR": str(folder)}  # nothing of the user's is read or left
    command = [program, "-n", "--exit-idle-time=-1", *loaded]
    log = (folder / "card.log").open("wb")
    with log, subprocess.Popen(command, stdout=log, stderr=log, env=own) as process:
        try:
            for _ in range(100):
                if socket.exists() or process.poll() is not None:
                    break
                time.sleep(0.1)
            for kind, name in (("sink", "loudspeaker"), ("source", "microphone.monitor")):
                subprocess.run(["pactl", f"set-default-{kind}", name], check=True)
            yield SoundCard(folder)
        finally:
            process.terminate()
