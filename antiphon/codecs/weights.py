"""Reading published weights and our own: files, names, weight norm."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from antiphon.errors import HubError
from antiphon.nn.quantize import Codebook
from antiphon.nn.seanet import SeanetConv, folded, pack


def read_config(folder: Path | str) -> dict:
    """config.json of a folder.

    Raises:
        HubError: there is none, or it is no JSON object.
    """
    path = Path(folder) / "config.json"
    try:
        config = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise HubError(f"{path} cannot be read ({error}). A codec's folder holds config.json and weights.") from error
    if not isinstance(config, dict):
        raise HubError(f"{path} holds no settings: a JSON object is expected.")
    return config


def read_weights(folder: Path | str, *names: str) -> dict[str, Tensor]:
    """Tensors of a folder, in float32.

    Args:
        folder: a model's folder.
        names: files to look for besides model.safetensors, best first; those of `torch.save` are read as weights only.

    Raises:
        HubError: none of the files is there, or it cannot be read.
    """
    folder = Path(folder)
    for name in ("model.safetensors", *names):
        path = folder / name
        if not path.is_file():
            continue
        try:
            if path.suffix == ".safetensors":
                weights = load_file(path)
            else:
                weights = torch.load(path, map_location="cpu", weights_only=True)
        except (SafetensorError, OSError, RuntimeError, ValueError, EOFError) as error:
            raise HubError(f"{path} cannot be read ({error}). Download it again.") from error
        return {key: value.float() if value.is_floating_point() else value for key, value in weights.items()}
    raise HubError(f"{folder} has no weights: {' or '.join(('model.safetensors', *names))} is expected there.")


def rename(weights: dict[str, Tensor], names: Iterable[tuple[str, str]]) -> dict[str, Tensor]:
    """Published names to ours.

    Args:
        weights: published.
        names: pairs of a published prefix and ours, of whole modules or parameters ("encoder.conv1", "encoder.first").

    Returns:
        What the table names, under our names; a key that it doesn't name is kept, so that loading complains of it.
    """
    table = dict(names)
    renamed = {}
    for key, value in weights.items():
        prefix, rest = key, ""
        while prefix and prefix not in table:
            prefix, dot, last = prefix.rpartition(".")
            rest = f"{dot}{last}{rest}"
        renamed[table[prefix] + rest if prefix else key] = value
    return renamed


def load_into(
    module: nn.Module, weights: dict[str, Tensor], folder: Path | str, may_lack: tuple[str, ...] = ()
) -> None:
    """Fills a module.

    Args:
        module, weights: of the same names.
        folder: named in errors.
        may_lack: ends of the names of buffers that matter to training alone.

    Raises:
        HubError: a weight is missing, unknown or of another shape.
    """
    try:
        missing, unknown = module.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        detail = str(error).splitlines()[-1].strip()
        raise HubError(f"{folder}: the weights do not fit its config.json ({detail}).") from error
    missing = [name for name in missing if not name.endswith(may_lack or ("\0",))]
    if missing or unknown:
        raise HubError(
            f"{folder}: the weights do not fit its config.json (missing: {', '.join(missing[:3]) or 'none'}; unknown: "
            f"{', '.join(unknown[:3]) or 'none'})."
        )


def publish(codec: nn.Module, weights: dict[str, Tensor], names: Callable[[str], str], folder: Path | str) -> None:
    """Fills a SEANet codec from published weights.

    Args:
        codec: its `quantizer.codebooks` are filled from what the table says of their `codes` and `usage`.
        weights: published; weight norm is multiplied out.
        names: the mapping table: a key of ours -> the published one.
        folder: named in errors.

    Raises:
        HubError: a weight is missing, unknown or of another shape.
    """
    weights = folded(weights)
    packing = {f"{path}.weight": each for path, each in codec.named_modules() if isinstance(each, SeanetConv)}
    ours, missing, known = {}, [], set()
    for key in codec.state_dict():
        if key.endswith((".total", ".ready")):
            continue  # follow from codes and usage
        name = names(key)
        known.add(name)
        if name not in weights:
            missing.append(name)
            continue
        ours[key] = pack(weights[name], packing[key]) if key in packing else weights[name]
    unknown = [name for name in weights if name not in known and not name.startswith("quantizer.")]
    if missing or unknown:
        raise HubError(
            f"{folder}: the weights do not fit its config.json (missing: {', '.join(missing[:3]) or 'none'}; unknown: "
            f"{', '.join(unknown[:3]) or 'none'})."
        )
    load_into(codec, ours, folder, (".total", ".ready"))
    settle(codec)


def settle(codec: nn.Module) -> None:
    """Makes the moving averages of all codebooks agree with their codes, so that training may go on from them."""
    for book in codec.modules():
        if isinstance(book, Codebook):
            if not bool((book.usage > 0).any()):
                book.usage.fill_(1.0)
            book.usage.clamp_(min=1e-5)
            book.total.copy_(book.codes * book.usage[:, None])
            book.ready.fill_(True)


def write(folder: Path | str, config: dict, weights: dict[str, Tensor], skip: tuple[str, ...] = ()) -> None:
    """Writes config.json and model.safetensors; weight norm is multiplied out.

    Args:
        folder: is made.
        config: "family" and sizes.
        weights: a state dict.
        skip: ends of the names of what isn't saved.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    kept = {key: value for key, value in folded(weights).items() if not skip or not key.endswith(skip)}
    save_file({key: value.detach().contiguous().cpu() for key, value in kept.items()}, folder / "model.safetensors")
