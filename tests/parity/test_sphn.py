"""Sounds beside Kyutai's own library for them, `sphn`: Ogg-Opus, and the conversations that moshi-finetune reads."""

import json

import numpy as np
import pytest

from antiphon.audio.ogg import OpusReader, OpusWriter
from antiphon.data.dialogue.format import ConversationWriter
from tests.audio.test_ogg import is_tone, tone
from tests.data.dialogue.test_format import RATE, talk


def test_opus_is_that_of_kyutai_s_own_library():
    sphn = pytest.importorskip("sphn")
    sound = tone(1)
    ours, theirs = OpusWriter(), sphn.OpusStreamReader(24000)
    pieces = [theirs.append_bytes(ours.head())]
    pieces += [theirs.append_bytes(ours.step(sound[at : at + 1920])) for at in range(0, 24000, 1920)]
    assert is_tone(np.concatenate(pieces))
    writer, reader = sphn.OpusStreamWriter(24000), OpusReader()
    back = np.concatenate([reader.step(writer.append_pcm(sound[at : at + 1920])) for at in range(0, 24000, 1920)])
    assert is_tone(back)


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_moshi_finetunes_reader_reads_ours(tmp_path, suffix):
    sphn = pytest.importorskip("sphn")  # moshi-finetune reads its data with it
    with ConversationWriter(tmp_path, suffix) as writer:
        writer.add("x", talk())
    reader = sphn.dataset_jsonl(
        str(tmp_path / "index.jsonl"), duration_sec=0.5, sample_rate=RATE, pad_last_segment=True
    )
    rows = list(reader.seq())
    assert len(rows) == 1
    np.testing.assert_allclose(rows[0]["data"], np.stack([talk().model, talk().user]).clip(-1, 1), atol=1e-4)
    beside = json.loads((tmp_path / "sounds" / "x.json").read_text())
    assert beside["alignments"] == [
        ["hello,", [0.1, 0.2], "SPEAKER_USER"],
        ["Yes?", [0.3, 0.4123], "SPEAKER_MAIN"],
    ]
    assert beside["events"][0] == ["turn", [0.1, 0.2], "user", "greeting"]
