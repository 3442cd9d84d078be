"""`antiphon data scene` and `antiphon data info` on tiny parts: made, resumed, and told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from typer.testing import CliRunner

from antiphon.cli.data import app
from antiphon.data.scene.encoded import EncodedSet
from antiphon.data.scene.splits import DEV, hashed

transformers = pytest.importorskip("transformers")
run = CliRunner()


@pytest.fixture
def whisper(tmp_path: Path) -> Path:
    """A tiny random Whisper."""
    torch.manual_seed(0)
    config = transformers.WhisperConfig(
        vocab_size=20, num_mel_bins=80, d_model=16, encoder_layers=2, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, pad_token_id=0, bos_token_id=1,
        eos_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip
    transformers.WhisperForConditionalGeneration(config).save_pretrained(tmp_path / "whisper")
    return tmp_path / "whisper"


def test_sets_are_made_resumed_and_told(tmp_path: Path, whisper: Path) -> None:
    folder = tmp_path / "barks"
    folder.mkdir()
    noise = np.random.default_rng(0).standard_normal(16000)
    names = [f"{number}.wav" for number in range(12)]
    for number, name in enumerate(names):
        soundfile.write(folder / name, 0.01 * (number + 1) * noise[: 8000 + 500 * number], 16000)
    rows = [{"path": name, "events": ["dog bark"], "fold": 1 + n % 4, "licence": "CC0"} for n, name in enumerate(names)]
    rows[0]["freesound_id"] = next(number for number in range(1000) if hashed(str(number)) < DEV)
    (folder / "9.wav").write_bytes(b"broken")
    rows[9]["licence"] = "GPL"  # so that no maker draws it
    (folder / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "sets.yaml").write_text("whole: [barks]\nmade: {event: 10}\n")
    asked = ["scene", str(tmp_path / "sets.yaml"), f"sources.recordings=[{folder}]", "-o", str(tmp_path / "out")]
    asked += ["--whisper", str(whisper)]

    only = run.invoke(app, [*asked, "--only", "barks"])
    assert only.exit_code == 0 and only.stdout == f"{tmp_path / 'out' / 'barks'}\n"
    done = run.invoke(app, asked)
    assert done.exit_code == 0 and done.stdout.splitlines() == [str(tmp_path / "out" / n) for n in ("barks", "event")]
    barks, events = (EncodedSet(tmp_path / "out" / name) for name in ("barks", "event"))
    assert [each.id for each in barks.examples] == [name for name in names if name != "9.wav"]
    assert {each.split for each in barks.examples if each.id[0] in "37"} == {"test"}
    assert barks.examples[0].split == "dev"
    assert sorted(each.split for each in events.examples) == ["dev", "test"] + ["train"] * 8
    features = barks(barks.examples[0])
    assert features.layers.shape == (1, 3, 7, 16) and features.mel.shape == (1, 80, 56)

    told = run.invoke(app, ["info", str(tmp_path / "out" / "event")]).stdout
    assert "event dog                     10 examples" in told and "train                         8 examples" in told
    wrong = run.invoke(app, [*asked, "made.hum=3"])
    assert wrong.exit_code != 0
