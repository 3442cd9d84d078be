"""Waveform to codes and back, one file a family.

codec = antiphon.codecs.load("mimi")              # a short name, a folder or a hub id
codes = codec.encode(audio)                       # [batch, codebooks, frames]
state = codec.init_state(batch=1)                 # the same, live: state is a value
codes = codec.encode_step(frame, state)
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from antiphon.codecs.base import Tokenizer


def load(name: Path | str) -> Tokenizer:
    """Loads a codec or a tokenizer of any family, in float32 and evaluation mode.

    Args:
        name: a short name ("mini", "mimi", "encodec_24khz", "dac_44khz", ...), a folder, a hub id ("kyutai/mimi"), or
            Kyutai's tokenizer-*.safetensors. A folder that has a short name's name is given as "./mimi".

    Returns:
        A `Codec`, a `StreamingCodec` if it is causal, or a `Tokenizer` (`encode` only) if it is semantic; see
        `antiphon.codecs.base`.

    Raises:
        AntiphonError: no such name or folder, a family that isn't known, or weights that don't fit.
    """
    from antiphon.codecs.families import load as load_family  # heavy imports wait until a codec is wanted

    return load_family(name)
