"""What the processes of `antiphon.evals.codec_bench` do: make models with random weights, and time or weigh them."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from antiphon.evals.codec_bench import LEVELS, BenchConfig, in_turns, missing_peers


def main(fields: str) -> None:
    """Runs one job, given as JSON; prints what it found as JSON, on the last line."""
    given = json.loads(fields)
    work, folder, count = given.pop("work"), Path(given.pop("folder")), given.pop("count")
    config = BenchConfig(**{key: tuple(value) if isinstance(value, list) else value for key, value in given.items()})
    torch.set_num_threads(count)
    torch.manual_seed(0)
    name, _, rest = work.partition("_")
    jobs = {"streaming": _streaming, "offline": _offline, "memory": _memory, "long": _long}
    print(json.dumps(jobs[name](config, folder, rest)))


def _sizes(config: BenchConfig) -> dict:
    tiny = {"filters": 4, "dim": 64, "inner": 64, "layers": 1, "codebook_dim": 16, "codebook_size": 32}
    return {"codebooks": LEVELS, **(tiny if config.small else {})}


def _streaming(config: BenchConfig, folder: Path, _: str) -> dict[str, list[float]]:
    """Encode and decode of one frame of 80 ms."""
    from safetensors.torch import save_file

    from antiphon.codecs.mimi import Mimi, MimiConfig
    from antiphon.codecs.mimi_weights import for_kyutai

    file = folder / "tokenizer-random.safetensors"
    if not file.is_file():
        save_file(for_kyutai(Mimi(MimiConfig(**_sizes(config))).eval()), file)
    codec = Mimi.from_pretrained(file)
    state = codec.init_state(1)
    audio = 0.1 * torch.randn(config.frames + config.warmup, 1, 1, codec.config.samples_per_frame)

    def ours(i: int) -> None:
        codec.decode_step(codec.encode_step(audio[i], state), state)

    sides: dict[str, Callable[[int], None]] = {"ours": ours}
    missing = missing_peers()
    if "moshi" not in missing:
        sides["moshi"] = _moshi(codec.config, file, audio)
    if "rustymimi" not in missing and not config.small:  # it knows one size
        sides["rustymimi"] = _rustymimi(file, audio)
    return in_turns(sides, config.frames, config.warmup)


def _moshi(sizes, file: Path, audio: Tensor) -> Callable[[int], None]:
    from moshi.models import loaders

    config = json.loads(json.dumps(loaders._mimi_config))
    dim = sizes.dim
    config["seanet"].update(dimension=dim, n_filters=sizes.filters)
    config["quantizer"].update(dimension=sizes.codebook_dim, n_q=sizes.codebooks, bins=sizes.codebook_size)
    config["quantizer"].update(input_dimension=dim, output_dimension=dim)
    config["transformer"].update(d_model=dim, num_layers=sizes.layers, dim_feedforward=sizes.inner)
    config["transformer"].update(input_dimension=dim, output_dimensions=[dim])
    model = loaders.get_mimi(file, mimi_config=config, num_codebooks=sizes.codebooks).eval()
    model.streaming_forever(1)

    def step(i: int) -> None:
        with torch.no_grad():
            model.decode(model.encode(audio[i]))

    return step


def _rustymimi(file: Path, audio: Tensor) -> Callable[[int], None]:
    import rustymimi

    model, frames = rustymimi.Tokenizer(str(file), num_codebooks=LEVELS), audio.numpy()

    def step(i: int) -> None:
        model.decode_step(model.encode_step(frames[i]))

    return step


def _published(config: BenchConfig, folder: Path, name: str) -> Path:
    """A folder written by `transformers`, random weights."""
    from transformers import EncodecConfig, EncodecModel, MimiConfig, MimiModel

    path = folder / name
    if path.is_dir():
        return path
    if name == "mimi":
        tiny = dict(num_filters=4, hidden_size=64, upsample_groups=64, intermediate_size=64, num_hidden_layers=1,
                    vector_quantization_hidden_dimension=16, codebook_dim=16, codebook_size=32)  # fmt: skip
        model = MimiModel(MimiConfig(num_quantizers=LEVELS, **(tiny if config.small else {})))
    else:
        model = EncodecModel(EncodecConfig(**(dict(num_filters=4, hidden_size=16) if config.small else {})))
    for key, buffer in model.named_buffers():
        if key.endswith(("embed_sum", "embed", "embed_avg")):
            torch.nn.init.normal_(buffer)
    model.save_pretrained(path)
    return path


def _ours(path: Path, name: str) -> Callable[[Tensor], Tensor]:
    from antiphon.codecs.families import load

    codec = load(path)
    return lambda audio: codec.decode(codec.encode(audio, LEVELS))


def _theirs(path: Path, name: str) -> Callable[[Tensor], Tensor]:
    from transformers import EncodecModel, MimiModel

    if name == "mimi":
        mimi = MimiModel.from_pretrained(path).eval()
        return torch.no_grad()(lambda audio: mimi.decode(mimi.encode(audio).audio_codes).audio_values)
    encodec = EncodecModel.from_pretrained(path).eval()
    bandwidth = 6.0

    @torch.no_grad()
    def both(audio: Tensor) -> Tensor:
        told = encodec.encode(audio, bandwidth=bandwidth)
        return encodec.decode(told.audio_codes, told.audio_scales).audio_values

    return both


def _offline(config: BenchConfig, folder: Path, name: str) -> dict[str, list[float]]:
    """Encode and decode of a whole signal."""
    path = _published(config, folder, name)
    audio = 0.1 * torch.randn(1, 1, int(24000 * config.seconds))
    ours, theirs = _ours(path, name), _theirs(path, name)
    sides = {"ours": lambda i: ours(audio), "transformers": lambda i: theirs(audio)}
    return in_turns(sides, config.rounds, 1)


def _resident(peak: bool) -> int:
    """Bytes of memory of this process, now or at most so far."""
    try:
        text = Path("/proc/self/status").read_text()
        return 1024 * int(re.search(rf"{'VmHWM' if peak else 'VmRSS'}:\s*(\d+) kB", text)[1])
    except (OSError, TypeError):  # not Linux: the peak so far has to do; macOS counts bytes
        import resource

        size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return size if sys.platform == "darwin" else 1024 * size


def _memory(config: BenchConfig, folder: Path, rest: str) -> dict[str, list[float]]:
    """Bytes that a model and its work need at most, beside the libraries."""
    import transformers.models.encodec.modeling_encodec
    import transformers.models.mimi.modeling_mimi  # noqa: F401

    import antiphon.codecs.encodec
    import antiphon.codecs.mimi  # noqa: F401

    name, who = rest.split("_")
    path = folder / name
    if not path.is_dir():
        import subprocess

        code = (
            "import sys, json, torch; from pathlib import Path; from antiphon.evals import codec_bench_work as work; "
            "work._published(work.BenchConfig(small=sys.argv[1] == 'True'), Path(sys.argv[2]), sys.argv[3])"
        )
        subprocess.run([sys.executable, "-c", code, str(config.small), str(folder), name], check=True, stdout=2)
    torch.randn(8, 8) @ torch.randn(8, 8)
    audio = 0.1 * torch.randn(1, 1, int(24000 * config.seconds))
    before = _resident(peak=False)
    run = (_ours if who == "ours" else _theirs)(path, name)
    run(audio)
    return {"bytes": [_resident(peak=True) - before]}


def _long(config: BenchConfig, folder: Path, part: str) -> dict[str, list[float]]:
    """Encode of `minutes / part`: seconds, and bytes beside the audio itself."""
    from antiphon.codecs.mimi import Mimi, MimiConfig

    codec = Mimi(MimiConfig(**_sizes(config))).eval()
    # In place: a product's two operands at once would be the peak, not the codec.
    audio = torch.randn(1, 1, int(24000 * 60 * config.minutes / int(part))).mul_(0.1)
    before = _resident(peak=False)
    start = time.perf_counter()
    codec.encode(audio)
    return {"seconds": [time.perf_counter() - start], "bytes": [_resident(peak=True) - before]}
