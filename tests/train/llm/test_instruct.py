"""Instruction tuning: what is learnt is the reply and its end, by the adapters alone."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from antiphon.errors import ModelError
from antiphon.models.llm.llama import Llama, LlamaConfig
from antiphon.models.lora import Lora, LoraConfig
from antiphon.train.config import StageConfig
from antiphon.train.engine import build_task
from antiphon.train.llm.instruct import IGNORED, ChatEncoder, InstructTask, bucket, collate, reply_loss
from tests.train.tiny import run_recipe

TINY = LlamaConfig(
    hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, head_dim=8,
    vocab_size=300, max_position_embeddings=512,
)  # fmt: skip


@pytest.fixture(scope="module")
def llm(tmp_path_factory) -> Path:
    """A folder of a tiny random language model with a byte-level tokenizer of two merges."""
    path = tmp_path_factory.mktemp("llm")
    pieces = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *sorted(pre_tokenizers.ByteLevel.alphabet()), "th", "the"]
    tokenizer = Tokenizer(
        models.BPE(vocab={piece: n for n, piece in enumerate(pieces)}, merges=[("t", "h"), ("th", "e")])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(piece, special=True, normalized=False) for piece in pieces[:3]])
    tokenizer.save(str(path / "tokenizer.json"))
    template = (
        "{% for m in messages %}{{'<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n'}}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    (path / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    (path / "config.json").write_text(json.dumps({"model_type": "llama", "tie_word_embeddings": True} | TINY.__dict__))
    torch.manual_seed(0)
    model = Llama(TINY)
    names = {"embed_tokens.weight": "model.embed_tokens.weight", "norm": "model.norm.weight"}
    weights = {}
    for key, value in model.state_dict().items():
        if key.startswith("layers."):
            _, number, rest = key.split(".", 2)
            part = "mlp." if rest.split("_")[0] in ("gate", "up", "down") else "self_attn." if "proj" in rest else ""
            weights[f"model.layers.{number}.{part}{rest}" + ("" if rest.endswith("weight") else ".weight")] = (
                value.contiguous()
            )
        else:
            weights[names[key]] = value.contiguous()
    save_file(weights, path / "model.safetensors")
    return path


def make_task(llm: Path, tmp_path: Path, **data) -> InstructTask:
    config = StageConfig(
        task="antiphon.train.llm.instruct:InstructTask",
        model={"llm": str(llm), "rank": 4, "alpha": 8.0, "first": 1, "last": 3},
        data=data,
        steps=10,
        batch=6,
        out=str(tmp_path),
    )
    return build_task(config)


def test_labels_by_hand(llm: Path) -> None:
    encoder = ChatEncoder(llm / "tokenizer.json")
    ids, labels = encoder.encode([("Q", "A"), ("R", "BC")])
    pieces = [encoder.whole.id_to_token(token) for token in ids]
    user, assistant = [*"user", "Ċ"], [*"assistant", "Ċ"]
    start, end = "<|im_start|>", "<|im_end|>"
    first = [start, *user, "q", end, "Ċ", start, *assistant]  # the words alone, as the thinker reads them
    second = [start, *user, "r", end, "Ċ", start, *assistant]
    assert pieces == [*first, "A", end, "Ċ", *second, "B", "C", end]
    learnt = [encoder.whole.id_to_token(label) if label != IGNORED else "" for label in labels]
    assert learnt == [*[""] * len(first), "A", end, *[""] * (1 + len(second)), "B", "C", end]


def test_system_prompt_and_spelling(llm: Path) -> None:
    encoder = ChatEncoder(llm / "tokenizer.json", system="S", merges=1)
    plain = encoder.encode([("the", "the")])[0]
    spelt = encoder.encode([("the", "the")], spelt=True)[0]
    assert encoder.whole.decode(plain, skip_special_tokens=False).startswith(
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nthe"
    )
    assert len(spelt) == len(plain) + 1  # the user's "the" is "th", "e"; the reply keeps its whole piece


def test_collate() -> None:
    tokens, labels = collate([([1, 2, 3], [IGNORED, 2, 3]), ([4], [4])])
    assert tokens.tolist() == [[1, 2, 3], [4, 0, 0]]
    assert labels.tolist() == [[IGNORED, 2, 3], [4, IGNORED, IGNORED]]


def test_buckets_hold_alike_lengths_once() -> None:
    import random

    lengths = [n % 17 for n in range(400)]
    batches = bucket(lengths, 8, random.Random(0))
    flat = [index for batch in batches for index in batch]
    assert len(flat) == len(set(flat)) == 400
    assert sum(max(lengths[i] for i in batch) - min(lengths[i] for i in batch) for batch in batches) / len(batches) < 2


def test_loss_by_hand_shifts_by_one(llm: Path) -> None:
    model = Llama.from_pretrained(llm)
    lora = Lora(model, LoraConfig(rank=2, first=1, last=3))
    tokens = torch.tensor([[5, 6, 7, 8, 0], [9, 10, 11, 12, 13]])
    labels = torch.tensor([[IGNORED, IGNORED, 7, 8, IGNORED], [IGNORED, IGNORED, IGNORED, IGNORED, 13]])
    loss, surprise = reply_loss(model, lora, tokens, labels)
    with torch.no_grad():
        logp = torch.log_softmax(model.logits(model(model.embed(tokens))), dim=-1)
    terms = [-logp[0, 1, 7].item(), -logp[0, 2, 8].item(), -logp[1, 3, 13].item()]
    assert math.isclose(loss.item(), sum(terms) / 3, rel_tol=1e-4)
    torch.testing.assert_close(surprise, torch.tensor([max(terms[:2]), terms[2]]), rtol=1e-4, atol=1e-4)


def test_padding_and_neighbours_change_nothing(llm: Path) -> None:
    model = Llama.from_pretrained(llm)
    lora = Lora(model, LoraConfig(rank=2, first=1, last=3))
    row = ([5, 6, 7, 8], [IGNORED, IGNORED, 7, 8])
    alone = reply_loss(model, lora, *collate([row]))[1]
    among = reply_loss(model, lora, *collate([row, ([9] * 12, [9] * 12)]))[1][:1]
    torch.testing.assert_close(alone, among, rtol=1e-4, atol=1e-5)


def test_gradients_reach_every_adapter_and_nothing_else(llm: Path, tmp_path: Path) -> None:
    task = make_task(llm, tmp_path)
    for name, parameter in task.model.named_parameters():
        if name.endswith("lora_B"):
            torch.nn.init.normal_(parameter, std=0.1)
    task.losses(task.batch(0), "model")["reply"].backward()
    for name, parameter in task.model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.abs().sum() > 0, name
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in task.base.parameters())


def test_one_batch_is_overfitted(llm: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    task = make_task(llm, tmp_path)
    tokens, labels, replies = task.batch(0)
    batch = (tokens[:2, :], labels[:2, :], replies[:2])
    optimizer = torch.optim.AdamW(task.model.parameters(), lr=2e-2, weight_decay=0.0)
    losses = []
    for _ in range(150):
        loss = task.losses(batch, "model")["reply"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


def test_batches_are_pure_functions_of_the_step(llm: Path, tmp_path: Path) -> None:
    one, other = make_task(llm, tmp_path, spelt=0.5, merges=1), make_task(llm, tmp_path, spelt=0.5, merges=1)
    last = len(one.plan(0)) + 1  # in the second epoch
    for step in (last, 0, 2):
        a, b = one.batch(step), other.batch(step)
        assert torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) and a[2] == b[2]
    assert one.batch(0)[2] != one.batch(1)[2]


def test_focus_leaves_out_what_is_known(llm: Path, tmp_path: Path) -> None:
    task = make_task(llm, tmp_path)
    task.losses(task.batch(0), "model")
    task.export(tmp_path / "model")
    again = Lora.from_pretrained(tmp_path / "model", task.base)
    assert list(again.state_dict()) == list(task.model.state_dict())
    surprise = json.loads((tmp_path / "max_token_loss.json").read_text())
    assert set(surprise) == set(task.batch(0)[2]) and all(nats > 0 for nats in surprise.values())
    known = "The capital of France is Paris."
    (tmp_path / "max_token_loss.json").write_text(json.dumps({known: 0.1, "The capital of Italy is Rome.": 3.0}))
    focused = make_task(llm, tmp_path, focus=[str(tmp_path / "max_token_loss.json")], above=1.0, skip=["chat/*"])
    single = [example for batch in focused.plan(0) for example in batch if len(example.turns) == 1]
    assert not any(example.kind.startswith("chat/") for example in single)
    assert known not in {example.turns[0][1] for example in single}


def test_files_that_are_not_there(llm: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="held_out"):
        make_task(llm, tmp_path, held_out=str(tmp_path / "none.jsonl"))
    with pytest.raises(ModelError, match="focus"):
        make_task(llm, tmp_path, focus=[str(tmp_path / "none.json")])


def test_sample_writes_replies(llm: Path, tmp_path: Path) -> None:
    task = make_task(llm, tmp_path)
    task.data.__dict__["development"] = task.data.development[:3]
    task.sample(7, tmp_path / "samples")
    lines = [json.loads(line) for line in (tmp_path / "samples" / "000007.jsonl").read_text().splitlines()]
    assert len(lines) == 3 and set(lines[0]) == {"question", "reply", "wanted", "same"}


def test_fewer_examples_than_a_batch_are_one(llm: Path, tmp_path: Path) -> None:
    import random

    assert sorted(bucket([3, 1, 2], 8, random.Random(0))[0]) == [0, 1, 2]
    with pytest.raises(ModelError, match="no examples left; data.skip"):
        make_task(llm, tmp_path, skip=["*"]).batch(0)


def test_what_is_known_of_replies_outlasts_a_stop(llm: Path, tmp_path: Path) -> None:
    task, again = make_task(llm, tmp_path), make_task(llm, tmp_path)
    task.losses(task.batch(0), "model")
    again.load_state_dict(task.state_dict())
    again.export(tmp_path / "model")
    assert set(json.loads((tmp_path / "max_token_loss.json").read_text())) == set(task.batch(0)[2])


@pytest.mark.parametrize("name", ["instruct", "instruct-focus"])
def test_the_shipped_recipes_run(llm: Path, tmp_path: Path, name: str) -> None:
    sizes = {"rank": 4, "alpha": 8.0, "first": 1, "last": 3, "llm": str(llm)}
    places: dict[str, object] = {"data__texts": None, "batch": 6}
    if name == "instruct-focus":
        make_task(llm, tmp_path).export(tmp_path / "start")
        places |= {"data__focus": [str(tmp_path / "max_token_loss.json")], "init": str(tmp_path / "start")}
    folder = run_recipe(
        f"mini/{name}", tmp_path / "run", **places, **{f"model__{key}": value for key, value in sizes.items()}
    )
    assert (folder / "adapter_model.safetensors").is_file() and (tmp_path / "run" / "max_token_loss.json").is_file()
