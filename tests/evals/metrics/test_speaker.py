"""Speaker similarity: the windows, and the same embeddings as Resemblyzer's own code gives."""

import sys
import types

import numpy as np
import pytest
import torch

from antiphon.audio.io import Audio, load
from antiphon.errors import EvalError
from antiphon.evals.metrics import speaker


@pytest.mark.parametrize("samples", [0, 100, 16000, 25600, 30000, 48000, 100_000, 160_007])
def test_windows_cover_a_clip(samples):
    starts = speaker.windows(samples)
    assert starts[0] == 0 and all(b - a == speaker.STEP for a, b in zip(starts, starts[1:]))
    if samples > 16000:
        assert (starts[-1] + 2 * speaker.PIECE) * speaker.HOP > samples  # less than a window is left out at the end


def test_without_the_package_it_says_so(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EvalError, match="pip install"):
        speaker.encoder.__wrapped__()


@pytest.fixture
def theirs(monkeypatch):
    """The package's own code; of librosa it only wants the mel spectrogram, which transformers' twin of it makes."""
    pytest.importorskip("scipy")
    if not __import__("importlib.util").util.find_spec("resemblyzer"):
        pytest.skip("resemblyzer is not installed")
    from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

    def melspectrogram(y, sr, n_fft, hop_length, n_mels):
        bank = mel_filter_bank(n_fft // 2 + 1, n_mels, 0, sr / 2, sr, norm="slaney", mel_scale="slaney")
        window = window_function(n_fft, "hann")
        return spectrogram(
            y, window, n_fft, hop_length, power=2.0, pad_mode="constant", mel_filters=bank, mel_floor=0.0
        )

    fakes = {
        "librosa": types.SimpleNamespace(feature=types.SimpleNamespace(melspectrogram=melspectrogram)),
        "webrtcvad": types.SimpleNamespace(),
        "scipy.ndimage.morphology": types.SimpleNamespace(binary_dilation=None),
    }
    for name, fake in fakes.items():
        monkeypatch.setitem(sys.modules, name, fake)
    import resemblyzer

    yield resemblyzer
    for name in [name for name in sys.modules if name.startswith("resemblyzer")]:
        del sys.modules[name]


def test_embeddings_are_resemblyzers(theirs, question):
    model = theirs.VoiceEncoder("cpu", verbose=False)
    clip = load(question, 16000)
    for samples in (clip.samples, clip.samples[:9000], 0.02 * clip.samples):
        ours = speaker.encoder().embed(Audio(samples, 16000)).numpy()
        np.testing.assert_allclose(
            ours, model.embed_utterance(theirs.normalize_volume(samples.numpy(), -30, increase_only=True)), atol=1e-5
        )


def test_a_voice_is_like_itself(question):
    pytest.importorskip("torch")
    if not __import__("importlib.util").util.find_spec("resemblyzer"):
        pytest.skip("resemblyzer is not installed")
    clip = load(question)
    noise = Audio(torch.rand(clip.samples.shape) - 0.5, clip.sample_rate)
    assert speaker.speaker_similarity(clip, clip) == pytest.approx(1.0, abs=1e-5)
    assert speaker.speaker_similarity(clip, noise) < 0.7
    assert torch.isfinite(speaker.encoder().embed(Audio(torch.zeros(8000), 16000))).all()
