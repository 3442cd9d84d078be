"""What the processes of `antiphon.bench.codec` do: make models with random weights, and time or weigh them."""

from __future__ import annotations

import importlib.util
import json
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from antiphon.bench.compare import Times, check_known, in_turns, missing
from antiphon.evals.machine import in_fresh_process, memory_bytes

GROUPS = ("streaming", "offline", "memory", "long")
PEERS = ("moshi", "rustymimi", "transformers", "speechtokenizer")
BESIDE = {
    "mimi": "transformers",
    "encodec": "transformers",
    "dac": "transformers",
    "speechtokenizer": "speechtokenizer",
}
LONG = ("mimi", "encodec", "dac", "speechtokenizer", "mini")
CODEBOOKS = 8  # Moshi's number; 6 kbit/s of EnCodec


@dataclass(frozen=True)
class BenchConfig:
    """What to measure.

    Attributes:
        only: groups, see `GROUPS`. "long" encodes `minutes` of noise and takes its time.
        codecs: see `LONG`; "offline" and "memory" know those of `BESIDE`, "streaming" knows mimi.
        threads: numbers of threads; where there are several, a figure is the worst of them.
        frames: of 80 ms that are timed, after `warmup` that aren't.
        warmup: frames.
        seconds: of audio in a round of "offline", and in "memory".
        rounds: of "offline".
        minutes: of audio in "long".
        small: tiny models, to try the bench itself.
    """

    only: tuple[str, ...] = ("streaming", "offline", "memory")
    codecs: tuple[str, ...] = tuple(BESIDE)
    threads: tuple[int, ...] = (1, 2)
    frames: int = 150
    warmup: int = 10
    seconds: float = 10.0
    rounds: int = 5
    minutes: float = 60.0
    small: bool = False

    def __post_init__(self) -> None:
        check_known(self.only, GROUPS, "group")
        check_known(self.codecs, LONG, "codec")


def work(fields: dict[str, Any]) -> Times:
    """Runs one "job", GROUP or GROUP_CODEC..., on "count" threads, with the models in "folder"; the other fields are
    those of a `BenchConfig`."""
    job, folder, count = fields.pop("job"), Path(fields.pop("folder")), fields.pop("count")
    config = BenchConfig(**{key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()})
    torch.set_num_threads(count)
    torch.manual_seed(0)
    group, _, rest = job.partition("_")
    jobs = {"streaming": _streaming, "offline": _offline, "memory": _memory, "long": _long}
    return jobs[group](config, folder, rest)


def _sizes(config: BenchConfig) -> dict:
    tiny = {"filters": 4, "dim": 64, "inner": 64, "layers": 1, "codebook_dim": 16, "codebook_size": 32}
    return {"codebooks": CODEBOOKS, **(tiny if config.small else {})}


def _streaming(config: BenchConfig, folder: Path, _: str) -> Times:
    """Encode and decode of one frame of 80 ms."""
    from safetensors.torch import save_file

    from antiphon.codecs.mimi.model import Mimi, MimiConfig
    from antiphon.codecs.mimi.weights import for_kyutai

    file = folder / "tokenizer-random.safetensors"
    if not file.is_file():
        save_file(for_kyutai(Mimi(MimiConfig(**_sizes(config))).eval()), file)
    codec = Mimi.from_pretrained(file)
    state = codec.init_state(1)
    audio = 0.1 * torch.randn(config.frames + config.warmup, 1, 1, codec.config.samples_per_frame)

    def ours(i: int) -> None:
        codec.decode_step(codec.encode_step(audio[i], state), state)

    sides: dict[str, Callable[[int], None]] = {"ours": ours}
    skipped = missing(PEERS)
    if "moshi" not in skipped:
        sides["moshi"] = _moshi(codec.config, file, audio)
    if "rustymimi" not in skipped and not config.small:  # it knows one size
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

    model, frames = rustymimi.Tokenizer(str(file), num_codebooks=CODEBOOKS), audio.numpy()

    def step(i: int) -> None:
        model.decode_step(model.encode_step(frames[i]))

    return step


def _published(config: BenchConfig, folder: Path, name: str) -> Path:
    """A folder written by the peer's own code, random weights."""
    path = folder / name
    if path.is_dir():
        return path
    if name == "speechtokenizer":
        return _speechtokenizer_folder(config, path)
    from transformers import DacConfig, DacModel, EncodecConfig, EncodecModel, MimiConfig, MimiModel

    if name == "mimi":
        tiny = dict(num_filters=4, hidden_size=64, upsample_groups=64, intermediate_size=64, num_hidden_layers=1,
                    vector_quantization_hidden_dimension=16, codebook_dim=16, codebook_size=32)  # fmt: skip
        model = MimiModel(MimiConfig(num_quantizers=CODEBOOKS, **(tiny if config.small else {})))
    elif name == "dac":
        tiny = dict(encoder_hidden_size=4, decoder_hidden_size=64, codebook_size=32) if config.small else {}
        sizes = dict(downsampling_ratios=[2, 4, 5, 8], upsampling_ratios=[8, 5, 4, 2], n_codebooks=12)  # dac_16khz's
        model = DacModel(DacConfig(**sizes, **tiny))
    else:
        model = EncodecModel(EncodecConfig(**(dict(num_filters=4, hidden_size=16) if config.small else {})))
    for key, buffer in model.named_buffers():
        if key.endswith(("embed_sum", "embed", "embed_avg")):
            torch.nn.init.normal_(buffer)
    model.save_pretrained(path)
    return path


def publish(fields: dict[str, Any]) -> None:
    """`_published` as a job."""
    _published(BenchConfig(small=fields["small"]), Path(fields["folder"]), fields["name"])


def _speechtokenizer() -> type:
    """The package's model; its top imports a trainer with all that it needs, so that is left out."""
    if "speechtokenizer" not in sys.modules:
        spec = importlib.util.find_spec("speechtokenizer")
        sys.modules["speechtokenizer"] = importlib.util.module_from_spec(spec)
    return importlib.import_module("speechtokenizer.model").SpeechTokenizer


def _speechtokenizer_folder(config: BenchConfig, path: Path) -> Path:
    fields = dict(sample_rate=16000, strides=[8, 5, 4, 2], n_filters=64, dimension=1024, semantic_dimension=768,
                  bidirectional=True, dilation_base=2, residual_kernel_size=3, n_residual_layers=1, lstm_layers=2,
                  activation="ELU", codebook_size=1024, n_q=CODEBOOKS)  # fmt: skip
    fields |= dict(n_filters=4, dimension=32, semantic_dimension=16, codebook_size=32) if config.small else {}
    weights = _speechtokenizer()(fields).state_dict()
    for key, value in weights.items():
        if key.endswith(("embed", "embed_avg")):
            torch.nn.init.normal_(value, std=0.1)
        elif key.endswith("inited"):
            value.fill_(1.0)
    path.mkdir()
    (path / "config.json").write_text(json.dumps(fields))
    torch.save(weights, path / "SpeechTokenizer.pt")
    return path


Side = Callable[[Tensor], tuple[Tensor, Tensor]]
"""audio [1, 1, samples] -> codes [1, codebooks, frames], audio [1, 1, samples]."""


def _ours(path: Path) -> tuple[Side, int]:
    """What we do, and at which sample rate."""
    from antiphon.codecs.families import load

    codec = load(path)

    def both(audio: Tensor) -> tuple[Tensor, Tensor]:
        codes = codec.encode(audio, CODEBOOKS)
        return codes, codec.decode(codes)

    return both, codec.sample_rate


def _theirs(path: Path) -> Side:
    if path.name == "speechtokenizer":
        model = _speechtokenizer().load_from_checkpoint(path / "config.json", path / "SpeechTokenizer.pt").eval()

        @torch.no_grad()
        def package(audio: Tensor) -> tuple[Tensor, Tensor]:
            codes = model.encode(audio, n_q=CODEBOOKS)
            return codes.transpose(0, 1), model.decode(codes)

        return package
    from transformers import DacModel, EncodecModel, MimiModel

    model = {"mimi": MimiModel, "encodec": EncodecModel, "dac": DacModel}[path.name].from_pretrained(path).eval()
    asked = {"mimi": {}, "encodec": {"bandwidth": 6.0}, "dac": {"n_quantizers": CODEBOOKS}}[path.name]

    @torch.no_grad()
    def both(audio: Tensor) -> tuple[Tensor, Tensor]:
        told = model.encode(audio, **asked)
        if path.name == "dac":
            return told.audio_codes, model.decode(audio_codes=told.audio_codes).audio_values[:, None]
        scales = [told.audio_scales] if path.name == "encodec" else []
        codes = told.audio_codes[0] if path.name == "encodec" else told.audio_codes
        return codes, model.decode(told.audio_codes, *scales).audio_values

    return both


def _offline(config: BenchConfig, folder: Path, name: str) -> Times:
    """Encode and decode of a whole signal, after a check that both give the same."""
    path = _published(config, folder, name)
    ours, rate = _ours(path)
    theirs = _theirs(path)
    audio = 0.1 * torch.randn(1, 1, int(rate * config.seconds))
    _same(name, ours(audio[..., :rate]), theirs(audio[..., :rate]))
    sides = {"ours": lambda i: ours(audio), BESIDE[name]: lambda i: theirs(audio)}
    return in_turns(sides, config.rounds, 1)


def _same(name: str, ours: tuple[Tensor, Tensor], theirs: tuple[Tensor, Tensor]) -> None:
    """Raises RuntimeError where codes differ (but for one in a thousand: random weights have near ties), or, where
    codes are the same, sounds do."""
    agree = float((ours[0] == theirs[0]).float().mean())
    length = min(ours[1].shape[-1], theirs[1].shape[-1])
    far = float((ours[1] - theirs[1])[..., :length].abs().max())
    print(f"{name}: {agree:.5f} of the codes agree, sounds differ by {far:.1e}", file=sys.stderr)
    if agree < 0.999 or (agree == 1.0 and far > 1e-4):
        raise RuntimeError(f"{name}: only {agree:.4f} of the codes agree; sounds differ by {far:.1e}")


def _memory(config: BenchConfig, folder: Path, rest: str) -> Times:
    """Bytes that a model and its work need at most, beside the libraries."""
    import transformers.models.dac.modeling_dac
    import transformers.models.encodec.modeling_encodec
    import transformers.models.mimi.modeling_mimi  # noqa: F401

    import antiphon.codecs.dac
    import antiphon.codecs.encodec.model
    import antiphon.codecs.mimi.model
    import antiphon.codecs.speechtokenizer  # noqa: F401

    name, who = rest.split("_")
    path = folder / name
    if name == "speechtokenizer":
        _speechtokenizer()
    if not path.is_dir():  # made elsewhere, so that what that takes isn't counted
        fields = {"small": config.small, "folder": str(folder), "name": name}
        in_fresh_process(publish, fields, f"Making {name}")
    torch.randn(8, 8) @ torch.randn(8, 8)
    rate = 24000 if name in ("mimi", "encodec") else 16000
    audio = 0.1 * torch.randn(1, 1, int(rate * config.seconds))
    before = memory_bytes()
    run = _ours(path)[0] if who == "ours" else _theirs(path)
    run(audio)
    return {"bytes": [memory_bytes("VmHWM") - before]}


def _fresh(config: BenchConfig, name: str) -> torch.nn.Module:
    """A codec of ours with random weights."""
    from antiphon.codecs.dac import Dac, DacConfig
    from antiphon.codecs.encodec.model import Encodec, EncodecConfig
    from antiphon.codecs.mimi.model import Mimi, MimiConfig
    from antiphon.codecs.mini.model import MiniCodec, MiniCodecConfig
    from antiphon.codecs.speechtokenizer import SpeechTokenizer, SpeechTokenizerConfig

    small = config.small
    makers = {
        "mimi": lambda: Mimi(MimiConfig(**_sizes(config))),
        "encodec": lambda: Encodec(
            EncodecConfig(codebooks=CODEBOOKS, **({"filters": 4, "latent": 16} if small else {}))
        ),
        "dac": lambda: Dac(DacConfig(**({"encoder_width": 4, "decoder_width": 64} if small else {}))),
        "speechtokenizer": lambda: SpeechTokenizer(
            SpeechTokenizerConfig(**({"filters": 4, "latent": 32} if small else {}))
        ),
        "mini": lambda: MiniCodec(MiniCodecConfig()),
    }
    return makers[name]().eval()


class _Peak:
    """The most memory of its own that this process has while it is entered, looked at every few milliseconds: `bytes`
    more than before."""

    def __enter__(self) -> _Peak:
        self.before = self.peak = memory_bytes("RssAnon")
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def _watch(self) -> None:
        while not self.over.wait(0.005):
            self.peak = max(self.peak, memory_bytes("RssAnon"))

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()
        self.bytes = max(self.peak, memory_bytes("RssAnon")) - self.before


def _long(config: BenchConfig, folder: Path, rest: str) -> Times:
    """Encode of `minutes / part`: seconds of the CPU (other programs don't count), and bytes beside audio and codes."""
    name, part = rest.split("_")
    codec = _fresh(config, name)
    seconds = 60 * config.minutes / int(part)
    # In place: a product's two operands at once would be the peak, not the codec.
    audio = torch.randn(1, 1, int(codec.sample_rate * seconds)).mul_(0.1)
    with _Peak() as memory:
        start = time.process_time()
        codes = codec.encode(audio)
        taken = time.process_time() - start
    return {"audio": [seconds], "seconds": [taken], "bytes": [memory.bytes - codes.nbytes]}
