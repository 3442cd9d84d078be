"""GGUF -> folder: the same model and tokenizer come out that went in."""

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from tokenizers import pre_tokenizers

from antiphon.errors import HubError
from antiphon.hub.convert_gguf import convert, key_of, unpermute
from antiphon.models.llm.llama import Llama

WIDTH, INNER, LAYERS, HEADS, GROUPS = 32, 64, 2, 4, 2
TEMPLATE = "{% for m in messages %}{{ m['content'] }}{% endfor %}"


def permute(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """What GGUF's own converter does to query and key projections."""
    rows, width = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, width).transpose(1, 2).reshape(rows, width)


@pytest.fixture(scope="module")
def theirs():
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    vocabulary = len(pre_tokenizers.ByteLevel.alphabet()) + 5
    return LlamaForCausalLM(
        LlamaConfig(
            hidden_size=WIDTH, intermediate_size=INNER, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
            num_key_value_heads=GROUPS, vocab_size=vocabulary, tie_word_embeddings=True, rope_theta=50000.0,
            initializer_range=0.3,
            bos_token_id=1, eos_token_id=2, pad_token_id=2,
        )
    ).eval()  # fmt: skip


def write(path: Path, model, architecture: str = "llama") -> Path:
    pieces = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *sorted(pre_tokenizers.ByteLevel.alphabet()), "12", "ab"]
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(128)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(GROUPS)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(50000.0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(pieces)
    writer.add_token_types([3, 3, 3, *[1] * (len(pieces) - 3)])
    writer.add_token_merges(["1 2", "a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(TEMPLATE)
    names = {
        "model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
        "input_layernorm": "attn_norm",
        "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
    }  # fmt: skip
    for key, value in model.state_dict().items():
        if key == "lm_head.weight":
            continue
        if "q_proj" in key or "k_proj" in key:
            value = permute(value, HEADS if "q_proj" in key else GROUPS)
        name = names.get(key) or f"blk.{key.split('.')[2]}.{names[key.split('.', 3)[3].removesuffix('.weight')]}.weight"
        array = value.numpy().astype(np.float32)
        if "ffn_gate" in name:  # one quantized kind among the plain ones
            quantized = gguf.quants.quantize(array, gguf.GGMLQuantizationType.Q8_0)
            writer.add_tensor(name, quantized, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
            value.copy_(torch.from_numpy(gguf.quants.dequantize(quantized, gguf.GGMLQuantizationType.Q8_0)))
        else:
            writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_the_same_model_comes_out(tmp_path: Path, theirs) -> None:
    from transformers import AutoTokenizer, LlamaForCausalLM

    folder = convert(write(tmp_path / "model.gguf", theirs), tmp_path / "out", packed=False)
    again = LlamaForCausalLM.from_pretrained(folder).eval()
    for key, value in theirs.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key
    tokens = torch.randint(3, 200, (2, 9))
    with torch.no_grad():
        theirs.config.rms_norm_eps = 1e-6
        torch.testing.assert_close(again(tokens).logits, theirs(tokens).logits, atol=1e-5, rtol=1e-5)
        ours = Llama.from_pretrained(folder)
        torch.testing.assert_close(ours.logits(ours(ours.embed(tokens))), again(tokens).logits, atol=1e-4, rtol=1e-4)

    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = "<|im_start|>ab 12, naïve café 😀\n"
    ids = tokenizer(text).input_ids
    assert tokenizer.decode(ids) == text and ids[0] == 1
    assert tokenizer.convert_ids_to_tokens(ids)[1:5] == [
        "ab",
        "Ġ",
        "1",
        "2",
    ]  # digits stand alone, so "12" is never merged
    assert tokenizer.chat_template == TEMPLATE and tokenizer.eos_token == "<|im_end|>"


def test_packed_it_is_nearly_the_same_model(tmp_path: Path, theirs) -> None:
    folder = convert(write(tmp_path / "model.gguf", theirs), tmp_path / "out")
    ours = Llama.from_pretrained(folder)
    tokens = torch.randint(3, 200, (2, 9))
    with torch.no_grad():
        theirs.config.rms_norm_eps = 1e-6
        want, got = theirs(tokens).logits, ours.logits(ours(ours.embed(tokens)))
    assert (got - want).norm() < 0.15 * want.norm()


def test_unpermute_undoes_permute() -> None:
    weight = torch.randn(24, 5)
    for heads in (1, 2, 3):
        assert torch.equal(unpermute(permute(weight, heads), heads), weight)


def test_names() -> None:
    assert key_of("blk.11.ffn_down.weight") == "model.layers.11.mlp.down_proj.weight"
    with pytest.raises(HubError, match="another architecture"):
        key_of("blk.0.ssm_conv.weight")


def test_other_files_are_refused(tmp_path: Path, theirs) -> None:
    (tmp_path / "no.gguf").write_bytes(b"nothing of the kind")
    with pytest.raises(HubError, match="fetch it again"):
        convert(tmp_path / "no.gguf", tmp_path / "out")
    with pytest.raises(HubError, match="mamba"):
        convert(write(tmp_path / "other.gguf", theirs, "mamba"), tmp_path / "out")
