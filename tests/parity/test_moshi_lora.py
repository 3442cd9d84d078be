"""Low-rank adapters of Moshi beside those of the `moshi` package."""

import json

import pytest
import torch
from safetensors.torch import save_file

from antiphon.errors import HubError
from antiphon.models.moshi.model import Moshi
from antiphon.models.moshi.weights import LORA_FILE as FILE
from antiphon.models.moshi.weights import for_kyutai, load, load_lora, save_lora, to_kyutai
from antiphon.nn.delays import delay
from tests.models.moshi.test_lora import a_grid, filled, logits, make


@pytest.mark.parametrize("schedule", [None, [0, 1, 1]])
def test_what_we_write_the_moshi_package_reads(schedule, tmp_path):
    loaders = pytest.importorskip("moshi.models.loaders")
    model = make(schedule=schedule)
    lora = filled(model, scaling=0.7)
    save_lora(lora, model.config, tmp_path / "lora", dtype=torch.float32)
    save_file(for_kyutai(model.state_dict(), model.config), tmp_path / "base.safetensors")
    fields = json.loads((tmp_path / "lora" / "config.json").read_text())
    assert fields.pop("lora_name") == FILE and fields.pop("model_type") == "moshi" and fields["lora_rank"] == 4
    theirs = loaders.get_moshi_lm(
        tmp_path / "base.safetensors", fields, dtype=torch.float32, lora_weights=tmp_path / "lora" / FILE
    )
    lora.merge(model)
    with torch.no_grad():
        expected = theirs(a_grid()).text_logits[:, 0]
        found = model(delay(a_grid(), model.config.delays, -1)).text[:, :10]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    merged = for_kyutai(model.state_dict(), model.config)
    for name, module in theirs.named_modules():
        if hasattr(module, "merge_weight"):
            torch.testing.assert_close(module.merge_weight(), merged[f"{name}.weight"], atol=1e-5, rtol=0)


def test_what_the_moshi_package_writes_we_read(tmp_path):
    loaders = pytest.importorskip("moshi.models.loaders")
    from moshi.modules.lora import LoRALinear

    model = make()
    fields = to_kyutai(model.config)
    theirs = loaders.get_moshi_lm(
        None, {**fields, "lora": True, "lora_rank": 4, "lora_scaling": 1.5}, dtype=torch.float32
    )
    state = {}
    for name, module in theirs.named_modules():
        if isinstance(module, LoRALinear):
            state |= {f"{name}.lora_A.weight": module.lora_A.weight, f"{name}.lora_B.weight": module.lora_B.weight}
    (tmp_path / "m").mkdir()
    save_file({key: value.detach().contiguous() for key, value in state.items()}, tmp_path / "m" / FILE)
    config = {**fields, "lora": True, "lora_scaling": 1.5}
    (tmp_path / "m" / "config.json").write_text(json.dumps(config))
    lora = load_lora(tmp_path / "m", model)
    assert (lora.config.rank, lora.config.alpha) == (4, 6.0)
    with pytest.raises(HubError, match="LoRA checkpoint alone"):
        load(tmp_path / "m")
    save_file(for_kyutai(model.state_dict(), model.config), tmp_path / "m" / "model.safetensors")
    whole = load(tmp_path / "m")  # merged
    lora.merge(model)
    torch.testing.assert_close(logits(whole), logits(model), atol=1e-5, rtol=0)
    merged = for_kyutai(model.state_dict(), model.config)
    base = Moshi(model.config)
    assert base.config == whole.config
    for name, module in theirs.named_modules():
        if isinstance(module, LoRALinear):
            delta = 1.5 * module.lora_B.weight @ module.lora_A.weight
            again = for_kyutai(make().state_dict(), model.config)[f"{name}.weight"] + delta
            torch.testing.assert_close(merged[f"{name}.weight"], again, atol=1e-5, rtol=0)
