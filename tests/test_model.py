"""What `load` takes and refuses, before any weights are read."""
import pytest

import antiphon
from antiphon.errors import ConfigError, HubError


def test_a_device_that_models_do_not_talk_on_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="talk on the CPU, not on cuda"):
        antiphon.load("mini", device="cuda")
    with pytest.raises(HubError, match="has no part 'dtype'"):
        antiphon.load("mini", dtype="bfloat16")
