"""EnCodec (Defossez et al. 2022): the model, and the published checkpoints."""

from __future__ import annotations

from antiphon.codecs.families import Family

FAMILIES = (
    Family(
        "encodec",
        f"{__name__}.model:Encodec",
        ("encodec",),
        names={"encodec_24khz": "facebook/encodec_24khz", "encodec_48khz": "facebook/encodec_48khz"},
    ),
)
