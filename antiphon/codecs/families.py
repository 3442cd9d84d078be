"""The families of codecs and tokenizers, and how a name or a folder tells which it is."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from antiphon.codecs.base import Tokenizer
from antiphon.errors import ModelError


@dataclass(frozen=True)
class Family:
    """One family.

    Attributes:
        name: "family" in the config.json of our own format.
        module, cls: where its class is; imported when it is wanted.
        model_types: "model_type" in a published config.json.
        known: whether a published config.json that has no model_type is one of this family.
        names: short name -> hub id.
    """

    name: str
    module: str
    cls: str
    model_types: tuple[str, ...] = ()
    known: Callable[[dict[str, Any]], bool] = lambda config: False
    names: dict[str, str] = field(default_factory=dict)

    def load(self, folder: Path) -> Tokenizer:
        """What the folder holds."""
        try:
            module = importlib.import_module(self.module)
        except ModuleNotFoundError as error:
            raise ModelError(f"The {self.name} family needs the package {error.name!r}: pip install it.") from error
        return getattr(module, self.cls).from_pretrained(folder)


FAMILIES = (
    Family("mini-codec", "antiphon.codecs.mini.model", "MiniCodec"),
    Family("mimi", "antiphon.codecs.mimi.model", "Mimi", ("mimi",), names={"mimi": "kyutai/mimi"}),
    Family(
        "encodec", "antiphon.codecs.encodec.model", "Encodec", ("encodec",),
        names={"encodec_24khz": "facebook/encodec_24khz", "encodec_48khz": "facebook/encodec_48khz"},
    ),
    Family(
        "dac", "antiphon.codecs.dac", "Dac", ("dac",),
        names={f"dac_{rate}khz": f"descript/dac_{rate}khz" for rate in (16, 24, 44)},
    ),
    Family(
        "speechtokenizer", "antiphon.codecs.speechtokenizer", "SpeechTokenizer",
        known=lambda config: {"strides", "semantic_dimension", "n_q"} <= set(config),
        names={"speechtokenizer": "fnlp/SpeechTokenizer"},
    ),
    Family("semantic", "antiphon.codecs.semantic.kmeans", "SemanticTokenizer", ("hubert", "wav2vec2", "wavlm")),
    Family("supervised", "antiphon.codecs.semantic.supervised", "SupervisedTokenizer"),
)  # fmt: skip


def short_names() -> dict[str, str]:
    """Every short name and the hub id or preset's part that it stands for."""
    return {"mini": "codec", **{short: hub_id for family in FAMILIES for short, hub_id in family.names.items()}}


def family_of(config: dict[str, Any], where: Path | str) -> Family:
    """The family of a config.json.

    Raises:
        ModelError: none.
    """
    for family in FAMILIES:
        if config.get("family") == family.name or config.get("model_type") in family.model_types:
            return family
    if "family" not in config and "model_type" not in config:
        for family in FAMILIES:
            if family.known(config):
                return family
    said = config.get("family") or config.get("model_type")
    raise ModelError(
        f"{where} holds no codec that is known: its config.json says "
        f"{f'it is {said!r}' if said else 'neither family nor model_type'}. Families: "
        f"{', '.join(family.name for family in FAMILIES)}."
    )


def load(name: Path | str) -> Tokenizer:
    """See `antiphon.codecs.load`."""
    from antiphon import hub
    from antiphon.hub.weights import read_config

    path = Path(name).expanduser()
    if path.is_dir() and not (path / "config.json").is_file() and any(path.glob("tokenizer-*.safetensors")):
        return family_of({"model_type": "mimi"}, path).load(path)  # Kyutai's repositories
    if path.is_file() and path.suffix == ".safetensors":
        return family_of({"model_type": "mimi"}, path).load(path)
    short = short_names()
    if name not in short and not path.is_dir() and "/" not in str(name):
        raise ModelError(
            f"{name!r} is no codec that is known and no folder here. Names: {', '.join(short)}; or give a folder, or a "
            "hub id (organisation/name)."
        )
    folder = hub.folder(short[name] if name in short else path if path.is_dir() else name)
    return family_of(read_config(folder), folder).load(folder)
