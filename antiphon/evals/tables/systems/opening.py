"""From a name to what is measured."""

from __future__ import annotations

from pathlib import Path

from antiphon.errors import ModelError
from antiphon.evals.tables.systems.realtime import RealtimeSystem
from antiphon.evals.tables.systems.system import EndpointSystem, OurSystem, System, TransformersSystem


def open_system(model: str, parts: dict[str, str]) -> System:
    """Opens what is measured: an address, a folder of a `transformers` audio model, or a model of ours."""
    if model.startswith(("http://", "https://")):
        return EndpointSystem(model)
    if model.startswith(("ws://", "wss://")):
        return RealtimeSystem(model)
    folder = Path(model)
    if (folder / "preprocessor_config.json").is_file() or (folder / "processor_config.json").is_file():
        return TransformersSystem(folder)
    import antiphon

    opened = antiphon.load(model, **parts)
    if not hasattr(opened, "backend"):
        raise ModelError(
            f"{model} talks live and writes no answers: measure it by the row duplex, or antiphon eval duplex."
        )
    return OurSystem(opened, model)
