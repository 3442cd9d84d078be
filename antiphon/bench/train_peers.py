"""The peers of `antiphon.bench.train`: language models of `transformers`, learnt by others' loops."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from antiphon.data.formats.example import Example
from antiphon.models.llm.llama import LlamaConfig

IGNORED = -100


def llama(sizes: LlamaConfig) -> Any:
    """A `LlamaForCausalLM` of the same sizes, random."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    config = transformers.LlamaConfig(
        vocab_size=sizes.vocab_size, hidden_size=sizes.hidden_size, intermediate_size=sizes.intermediate_size,
        num_hidden_layers=sizes.num_hidden_layers, num_attention_heads=sizes.num_attention_heads,
        num_key_value_heads=sizes.num_key_value_heads, head_dim=sizes.head_dim, rms_norm_eps=sizes.rms_norm_eps,
        rope_theta=sizes.rope_theta, max_position_embeddings=sizes.max_position_embeddings, tie_word_embeddings=True,
        attn_implementation="sdpa",
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config)


def row(example: Example) -> dict[str, list[int]]:
    """An example as a data set of theirs has it."""
    tokens, learnt = example.tokens.tolist(), (example.weights != 0).tolist()
    return {"input_ids": tokens, "labels": [token if wanted else IGNORED for token, wanted in zip(tokens, learnt)]}


def padded(rows: Sequence[dict[str, list[int]]]) -> dict[str, Tensor]:
    """A batch, padded to its longest row, as `DataCollatorForSeq2Seq` makes it."""
    longest = max(len(each["input_ids"]) for each in rows)

    def filled(name: str, value: int) -> Tensor:
        return torch.tensor([[*each[name], *[value] * (longest - len(each[name]))] for each in rows])

    mask = torch.tensor([[1] * len(each["input_ids"]) + [0] * (longest - len(each["input_ids"])) for each in rows])
    return {"input_ids": filled("input_ids", 0), "labels": filled("labels", IGNORED), "attention_mask": mask}


@torch.no_grad()
def lm_loss(model: Any, examples: Sequence[Example]) -> Tensor:
    """What they make of a batch."""
    return model(**padded([row(each) for each in examples])).loss


def settings(folder: Path, batch: int) -> dict[str, Any]:
    """Of a run of theirs that does nothing but learn."""
    return {
        "output_dir": str(folder / "theirs"), "per_device_train_batch_size": batch, "num_train_epochs": 1,
        "learning_rate": 1e-4, "adam_beta2": 0.98, "weight_decay": 0.01, "report_to": [], "save_strategy": "no",
        "logging_strategy": "no", "use_cpu": True, "bf16": False, "disable_tqdm": True, "gradient_checkpointing": False,
        "optim": "adamw_torch_fused",
    }  # fmt: skip


def trainer(model: Any, examples: Sequence[Example], batch: int, folder: Path) -> Callable[[int], float]:
    """A side of the bench: `transformers`' Trainer, once through the examples."""
    from transformers import Trainer, TrainingArguments

    rows = [row(example) for example in examples]
    tokens = sum(len(example) for example in examples)

    def run(number: int) -> float:
        clock = Clock()
        arguments = TrainingArguments(**settings(folder, batch))
        Trainer(model, arguments, data_collator=padded, train_dataset=rows, callbacks=[clock.callback()]).train()
        return tokens / clock.seconds

    return run


@torch.no_grad()
def answer_logs(model: Any, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Log-probabilities of the weighted tokens of each row [rows], by their model."""
    tokens, weights, segments = batch
    logs = model(input_ids=tokens, attention_mask=(segments > 0).long()).logits[:, :-1].log_softmax(-1)
    return (logs.gather(2, tokens[:, 1:, None])[..., 0] * weights[:, 1:]).sum(1)


def dpo_trainer(
    model: Any, chosen: Sequence[Example], rejected: Sequence[Example], batch: int, folder: Path, kept: bool
) -> Callable[[int], float]:
    """A side of the bench: TRL's DPOTrainer, once through the pairs.

    Args:
        model: what learns.
        chosen, rejected: the sides of the pairs, whose tokens without weight are the prompts.
        batch: pairs of a batch.
        folder: for its files.
        kept: whether the reference's log-probabilities are made before, which isn't timed; else at each step, by a copy
            of the model, as is its default.
    """
    from datasets import Dataset
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast
    from trl import DPOConfig, DPOTrainer

    words = Tokenizer(models.WordLevel({f"w{n}": n for n in range(model.config.vocab_size)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="w0", pad_token="w0", unk_token="w0")

    def text(example: Example, learnt: bool) -> str:
        return "".join(f" w{token}" for token in example.tokens[(example.weights != 0) == learnt])

    rows = [
        {"prompt": text(better, False), "chosen": text(better, True), "rejected": text(worse, True)}
        for better, worse in zip(chosen, rejected)
    ]
    tokens = sum(len(example) for example in [*chosen, *rejected])
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")

    def run(number: int) -> float:
        clock, learnt = Clock(), type(model).from_pretrained(folder / "model")
        arguments = DPOConfig(**settings(folder, batch), precompute_ref_log_probs=kept, max_length=None)
        DPOTrainer(
            learnt, args=arguments, train_dataset=Dataset.from_list(rows), processing_class=tokenizer,
            callbacks=[clock.callback()],
        ).train()  # fmt: skip
        return tokens / clock.seconds

    return run


class Clock:
    """How long the steps of a run took, from the start of the first to the end of the last."""

    def __init__(self) -> None:
        self.began, self.ended = 0.0, 0.0

    @property
    def seconds(self) -> float:
        """All of them."""
        return self.ended - self.began

    def callback(self) -> Any:
        """What the trainer is to call."""
        from transformers import TrainerCallback

        clock = self

        class Tick(TrainerCallback):
            def on_step_begin(self, *_: Any, **__: Any) -> None:
                clock.began = clock.began or time.perf_counter()

            def on_step_end(self, *_: Any, **__: Any) -> None:
                clock.ended = time.perf_counter()

        return Tick()
