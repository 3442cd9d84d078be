"""Reading published weights and our own: files, names, weight norm."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from antiphon.errors import HubError
from antiphon.nn.quantize import Codebook
from antiphon.nn.seanet import SeanetConv, folded, pack
from antiphon.nn.weights import NoInitWeights

Made = TypeVar("Made")

# What the formats hold of a codebook. Those of one that isn't kept aren't read, nor what training alone needs of it.
_OF_CODEBOOKS = re.compile(
    r"quantizer(\.\w+)*\.(codebooks|layers)\.\d+(\._?codebook)?\.(codes|usage|total|ready|embed|embed_avg|embed_sum|"
    r"embedding_sum|cluster_size|cluster_usage|inited|initialized|_initialized)"
)


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


def configured(kind: Callable[..., Made], fields: dict[str, Any], folder: Path | str) -> Made:
    """A config, or a codec of it whose weights are still to be read, from what a config.json says.

    Args:
        kind: its class.
        fields: its arguments; "family" is left out, and lists become tuples.
        folder: named in errors.

    Raises:
        HubError: there is no such field, or its value makes no sense.
    """
    given = {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}
    given.pop("family", None)
    try:
        with NoInitWeights():
            return kind(**given)
    except (TypeError, ValueError, RuntimeError) as error:
        raise HubError(f"{folder}: its config.json makes no {kind.__name__} ({error}).") from error


def read_weights(folder: Path | str, *names: str, float32: bool = True) -> dict[str, Tensor]:
    """Tensors of a folder.

    Args:
        folder: a model's folder.
        names: files to look for besides model.safetensors, whole or in shards, best first.
        float32: whether they are made that; else they stay as they are, where they can on disk until they are used.

    Raises:
        HubError: none of the files is there, or it cannot be read.
    """
    folder = Path(folder)
    for name in ("model.safetensors", *names):
        if (folder / name).is_file():
            return read_file(folder / name, float32)
        index = folder / f"{name}.index.json"
        if index.is_file():
            try:
                shards = sorted({folder / shard for shard in json.loads(index.read_text())["weight_map"].values()})
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                raise HubError(f"{index} names no shards ({error!r}). Download it again.") from error
            return {key: value for shard in shards for key, value in read_file(shard, float32).items()}
    raise HubError(f"{folder} has no weights: {' or '.join(('model.safetensors', *names))} is expected there.")


def read_file(path: Path, float32: bool = True) -> dict[str, Tensor]:
    """Tensors of a file of safetensors or `torch.save` (read as weights only), in float32 or as they are.

    Raises:
        HubError: it cannot be read.
    """
    try:
        if path.suffix == ".safetensors":
            weights = load_file(path)
        else:
            weights = torch.load(path, map_location="cpu", weights_only=True)
        return {
            key: value.float() if float32 and value.is_floating_point() else value for key, value in weights.items()
        }
    except (SafetensorError, OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise HubError(f"{path} cannot be read ({error}). Download it again.") from error
    except AttributeError as error:
        raise HubError(f"{path} holds something else than tensors by their names.") from error


def unknown_to(used: Collection[str], weights: Iterable[str]) -> list[str]:
    """The keys that were not used and should have been: not those of codebooks that are left out, nor what training
    alone needs of a codebook."""
    return [key for key in weights if key not in used and not _OF_CODEBOOKS.fullmatch(key)]


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
    fits([name for name in missing if not name.endswith(may_lack or ("\0",))], unknown, folder)


def fits(missing: list[str], unknown: list[str], folder: Path | str) -> None:
    """Complains of weights that are missing or unknown.

    Raises:
        HubError: there are some.
    """
    if missing or unknown:
        raise HubError(
            f"{folder}: the weights do not fit its config.json (missing: {', '.join(missing[:3]) or 'none'}; unknown: "
            f"{', '.join(unknown[:3]) or 'none'})."
        )


def load_ours(codec: nn.Module, weights: dict[str, Tensor], folder: Path | str) -> None:
    """Fills a codec from weights in our own format, of as many codebooks or more.

    Raises:
        HubError: a weight is missing, unknown or of another shape.
    """
    known = codec.state_dict()
    strangers = set(unknown_to(known, weights))
    kept = {key: value for key, value in weights.items() if key in known or key in strangers}
    load_into(codec, kept, folder, (".total", ".ready"))
    settle(codec)


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
        try:
            ours[key] = pack(weights[name], packing[key]) if key in packing else weights[name]
        except (RuntimeError, IndexError) as error:
            raise HubError(f"{folder}: {name} is no convolution's weight, but {list(weights[name].shape)}.") from error
    fits(missing, unknown_to(known, weights), folder)
    load_into(codec, ours, folder, (".total", ".ready"))
    settle(codec)


def settle(codec: nn.Module) -> None:
    """Makes the moving averages of all codebooks agree with their codes, so that training may go on from them."""
    for book in codec.modules():
        if isinstance(book, Codebook):
            if not (book.usage > 0).any():
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


SCALE = ".scale"  # behind the name of a tensor in int8: the scales of its rows


def to_int8(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights for a file a quarter as large as in float32, which are computed with in float again: every matrix (and
    stack of them) in int8, its rows' scales beside it in float16; vectors in float16.

    A row's largest number becomes 127, so each number is off by at most 1/254 of that.
    """
    out: dict[str, Tensor] = {}
    for key, weight in weights.items():
        weight = weight.detach().float().cpu()
        if weight.ndim < 2:
            out[key] = weight.half().contiguous()
            continue
        scale = (weight.abs().amax(-1) / 127).clamp_min(1e-7).half()  # 1e-7: the least that float16 tells from 0
        out[key + SCALE] = scale
        out[key] = (weight / scale.float()[..., None]).round().clamp(-127, 127).to(torch.int8)
    return out


def from_int8(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `to_int8`, in float32; tensors that aren't in int8 stay as they are."""
    out = {}
    for key, weight in weights.items():
        if key.endswith(SCALE) and key.removesuffix(SCALE) in weights:
            continue
        scale = weights.get(key + SCALE)
        out[key] = weight if scale is None else weight.float() * scale.float()[..., None]
    return out
