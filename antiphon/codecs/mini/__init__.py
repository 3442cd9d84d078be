"""The codec that ships: small, causal, with a source-filter vocoder."""

from __future__ import annotations

from antiphon.codecs.families import Family

FAMILIES = (Family("mini-codec", f"{__name__}.model:MiniCodec"),)
