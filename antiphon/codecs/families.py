"""The families of codecs and tokenizers: where they are found, and how a name or a folder tells which it is.

A family is ours where a module of `antiphon.codecs` has it in its `FAMILIES`; another package brings its own as an
entry point of the group "antiphon.codecs" that is a `Family`. A codec that is saved under its class's import path,
"package.module:Class", needs neither.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from antiphon.errors import ModelError

if TYPE_CHECKING:
    from antiphon.codecs.base import Tokenizer

GROUP = __name__.rpartition(".")[0]  # antiphon.codecs: of entry points, and the package that is looked through


@dataclass(frozen=True)
class Family:
    """One family.

    Attributes:
        name: "family" in the config.json of our own format.
        cls: import path of its class, "package.module:Class"; imported when it is wanted.
        model_types: "model_type" in a published config.json.
        known: whether a published config.json that has no model_type is one of this family.
        names: short name -> hub id.
    """

    name: str
    cls: str
    model_types: tuple[str, ...] = ()
    known: Callable[[dict[str, Any]], bool] = lambda config: False
    names: dict[str, str] = field(default_factory=dict)


def families() -> list[Family]:
    """Ours and those of other packages, by name.

    Raises:
        ModelError: two of one name.
    """
    names = [module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)])]
    modules = [importlib.import_module(f"{GROUP}.{name}") for name in names]
    found = [family for module in modules for family in getattr(module, "FAMILIES", ())]
    found += [entry.load() for entry in entry_points(group=GROUP)]
    found.sort(key=lambda family: family.name)
    for one, other in pairwise(found):
        if one.name == other.name:
            raise ModelError(f"two codec families are called {one.name!r}: {one.cls} and {other.cls}; uninstall one.")
    return found


def codec_class(name: str) -> Any:
    """The class of a family's name ("mimi") or of an import path ("package.module:Class").

    Raises:
        ModelError: there is no such family or class, or it is no codec's.
    """
    known = {family.name: family.cls for family in families()}
    module, _, attribute = known.get(name, name).partition(":")
    if not attribute:
        raise ModelError(f"{name!r} is no family of codecs: {', '.join(known)}; or write package.module:Class.")
    try:
        cls = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise ModelError(f"The codec {name!r} needs the package {error.name!r}: pip install it.") from error
    except AttributeError as error:
        raise ModelError(f"{module} has no {attribute}: the codec {name!r} isn't there.") from error
    if not isinstance(cls, type):
        raise ModelError(f"{module}:{attribute} is no class: the codec {name!r} isn't there.")
    return cls


def short_names() -> dict[str, str]:
    """Every short name and the hub id or preset's part that it stands for."""
    return {
        "mini": "codec",
        "mini-voices": "mini-voices",
        **{short: hub_id for family in families() for short, hub_id in family.names.items()},
    }


def family_of(config: dict[str, Any], where: Path | str) -> str:
    """What a config.json says of its family, as `codec_class` takes it.

    Raises:
        ModelError: none.
    """
    said, known = config.get("family"), families()
    if isinstance(said, str) and ":" in said:
        return said
    for family in known:
        if said == family.name or config.get("model_type") in family.model_types:
            return family.name
    if "family" not in config and "model_type" not in config:
        for family in known:
            if family.known(config):
                return family.name
    said = said or config.get("model_type")
    raise ModelError(
        f"{where} holds no codec that is known: its config.json says "
        f"{f'it is {said!r}' if said else 'neither family nor model_type'}. Families: "
        f"{', '.join(family.name for family in known)}."
    )


def load_class(name: str, folder: Path) -> Tokenizer:
    """The codec of a folder, of that family or class.

    Raises:
        ModelError: no such class, or one that reads no folders.
    """
    cls = codec_class(name)
    if not (hasattr(cls, "encode") and hasattr(cls, "from_pretrained")):
        raise ModelError(f"{folder}: {name!r} is no codec, it lacks encode or from_pretrained.")
    return cls.from_pretrained(folder)


def load(name: Path | str) -> Tokenizer:
    """See `antiphon.codecs.load`."""
    from antiphon import hub
    from antiphon.hub.weights import read_config

    path = Path(name).expanduser()
    if path.is_dir() and not (path / "config.json").is_file() and any(path.glob("tokenizer-*.safetensors")):
        return load_class("mimi", path)  # Kyutai's repositories
    if path.is_file() and path.suffix == ".safetensors":
        return load_class("mimi", path)
    short = short_names()
    if name not in short and not path.is_dir() and "/" not in str(name):
        raise ModelError(
            f"{name!r} is no codec that is known and no folder here. Names: {', '.join(short)}; or give a folder, or a "
            "hub id (organisation/name)."
        )
    folder = hub.folder(short[name] if name in short else path if path.is_dir() else name)
    return load_class(family_of(read_config(folder), folder), folder)
