"""What packing costs: the thinker beside the same weights in float32, through another implementation (`transformers`).

Both get the same token ids. The float32 model runs in a process of its own, alone, and leaves its results on disk: two
models of 1.5 billion weights need not be in memory together.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import log_softmax, pad

from antiphon.errors import DataError
from antiphon.evals.assistant.answers import share
from antiphon.evals.assistant.benchmarks import choices, problems, read_set
from antiphon.evals.assistant.evaluation import AssistantEvaluation, fingerprint
from antiphon.evals.cache import key_of
from antiphon.evals.harness import rows_of
from antiphon.evals.machine import in_fresh_process
from antiphon.evals.metrics.answers import last_number
from antiphon.evals.report import Figure
from antiphon.hub.convert_gguf import GgufSource, config_of
from antiphon.models.llm.load import CausalLM

PIECE_TOKENS = 250  # of running text that are read at once
GENERATED_TOKENS = 256  # of a worked answer, at most
ROWS = 8  # answers that are generated together
Task = dict[str, Any]  # {"context": ids, "options": [ids, ...]} or {"prompt": ids, "ends": ids}


class Side(Protocol):
    """A language model that is compared."""

    def logits(self, tokens: Tensor) -> Tensor:
        """Ids [batch, tokens] -> [batch, tokens, vocabulary], float32."""
        ...

    def generate(self, prompts: Sequence[Sequence[int]], ends: Sequence[int], max_tokens: int) -> list[list[int]]:
        """Greedy continuations, without the end."""
        ...


class Ours:
    """A model of this project.

    Args:
        model: what `load_causal_lm` gives.
    """

    def __init__(self, model: CausalLM):
        self.model = model

    def logits(self, tokens: Tensor) -> Tensor:
        """See `Side`."""
        return self.model.logits(self.model(self.model.embed(tokens)))

    def generate(self, prompts: Sequence[Sequence[int]], ends: Sequence[int], max_tokens: int) -> list[list[int]]:
        """See `Side`; the rows are out of step, as those of live conversations are."""
        counts = torch.tensor([len(prompt) for prompt in prompts])
        tokens = torch.stack([pad(torch.tensor(prompt), (0, int(counts.max()) - len(prompt))) for prompt in prompts])
        cache, made = self.model.init_cache(len(prompts)), [[] for _ in prompts]
        hidden = self.model(self.model.embed(tokens), cache, None, counts)
        hidden, going = hidden[torch.arange(len(prompts)), counts - 1], list(range(len(prompts)))
        for _ in range(max_tokens):
            likeliest = self.model.logits(hidden).argmax(-1).tolist()
            going_on = [row for row, token in enumerate(likeliest) if token not in ends]
            for row in going_on:
                made[going[row]].append(likeliest[row])
            if not going_on:
                break
            if len(going_on) < len(going):
                going, cache = [going[row] for row in going_on], cache.fork(going_on)
            step = torch.tensor([[likeliest[row]] for row in going_on])
            hidden = self.model(self.model.embed(step), cache)[:, -1]
        return made


class Reference:
    """The same weights in float32, by `transformers`.

    Args:
        source: a GGUF file, or a folder.
    """

    def __init__(self, source: Path):
        import transformers

        if source.is_dir():
            model = transformers.AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
        else:
            gguf = GgufSource(source)
            config = config_of(gguf)
            weights = {name: gguf.rows(name, 0, shape[0]) for name, shape in gguf.shapes.items()}
            kind = getattr(transformers, config["architectures"][0])
            sizes = transformers.AutoConfig.for_model(**config)
            model = kind.from_pretrained(None, config=sizes, state_dict=weights, dtype=torch.float32)
        self.model = model.eval()

    def logits(self, tokens: Tensor) -> Tensor:
        """See `Side`."""
        return self.model(tokens).logits

    def generate(self, prompts: Sequence[Sequence[int]], ends: Sequence[int], max_tokens: int) -> list[list[int]]:
        """See `Side`; the prompts are padded on the left."""
        longest = max(len(prompt) for prompt in prompts)
        tokens = torch.stack([pad(torch.tensor(prompt), (longest - len(prompt), 0)) for prompt in prompts])
        mask = torch.stack([pad(torch.ones(len(prompt), dtype=int), (longest - len(prompt), 0)) for prompt in prompts])
        how = {"do_sample": False, "max_new_tokens": max_tokens, "eos_token_id": list(ends), "pad_token_id": ends[0]}
        # Published models ask for sampling and penalties of their own.
        how |= {"repetition_penalty": 1.0, "temperature": None, "top_p": None, "top_k": None}
        made = self.model.generate(tokens, attention_mask=mask, **how)[:, longest:].tolist()
        return [row[: next((i for i, token in enumerate(row) if token in ends), len(row))] for row in made]


def faithful(evaluation: AssistantEvaluation, n: int) -> list[Figure]:
    """On running text, `n` pieces: how often the likeliest next token is float32's, and the KL divergence from its
    distribution."""
    pieces = _pieces(evaluation, n)
    with tempfile.TemporaryDirectory() as folder:
        job = Path(folder) / "pieces.json"
        job.write_text(json.dumps(pieces))
        where = str(Path(folder) / "logits")
        fields = {"source": str(reference_of(evaluation)), "job": str(job), "out": where}
        vocabulary = in_fresh_process(write_logits, fields, "Reading text in float32")
        total = sum(map(len, pieces))
        theirs = np.memmap(where, np.float32, "r", shape=(total, vocabulary))
        starts = np.cumsum([0, *map(len, pieces)])
        ours = Ours(evaluation.model.thinker.model)

        def compare(i: int) -> tuple[list[bool], list[float]]:
            with torch.inference_mode():
                made = ours.logits(torch.tensor([pieces[i]]))[0]
                return compare_logits(made, torch.from_numpy(np.array(theirs[starts[i] : starts[i + 1]])))

        found = evaluation.each("reads text", range(len(pieces)), compare)
    equal, apart = ([value for part in column for value in part] for column in zip(*found))
    bar = evaluation.bar(base=">= 0.95", small=">= 0.95", mini=">= 0.99")
    return [
        Figure("greedy-tokens-equal", share(equal), "share", bar, 1.0, total),
        Figure("kl-per-token", statistics.fmean(apart), "nats", None, 0.0, total),
    ]


def compare_logits(ours: Tensor, theirs: Tensor) -> tuple[list[bool], list[float]]:
    """[tokens, vocabulary] each -> of each token, whether the likeliest are equal, and KL(theirs || ours) in nats."""
    ours = ours[:, : theirs.shape[1]]  # a packed head may have more rows than there are tokens
    p, q = log_softmax(theirs.float(), -1), log_softmax(ours.float(), -1)
    return (p.argmax(-1) == q.argmax(-1)).tolist(), (p.exp() * (p - q)).sum(-1).clamp_min(0).tolist()


def write_logits(fields: dict[str, Any]) -> int:
    """In a fresh process: the float32 model's logits of pieces of text, one below the other, to a file; gives the
    vocabulary's size."""
    side, pieces = Reference(Path(fields["source"])), json.loads(Path(fields["job"]).read_text())
    vocabulary = 0
    with open(fields["out"], "wb") as out, torch.inference_mode():
        for piece in pieces:
            made = side.logits(torch.tensor([piece]))[0].float()
            vocabulary = made.shape[1]
            made.numpy().tofile(out)
    return vocabulary


def ability(evaluation: AssistantEvaluation, n: int) -> list[Figure]:
    """Public question sets, typed to the bare model: choices by likelihood, word problems by generated answers.

    References of the sets' shares: float32. What is lost is the mean over the sets, in points.
    """
    tasks, grades = _tasks(evaluation, n)
    source, ours = reference_of(evaluation), Ours(evaluation.model.thinker.model)
    flat = [task for group in tasks.values() for task in group]
    identity = fingerprint(source)
    keys = [key_of("float32", identity, json.dumps(task)) for task in flat]

    def in_float32(rows: list[int], told: Callable[[int], Any]) -> list[Any]:
        with tempfile.TemporaryDirectory() as folder:
            job = Path(folder) / "tasks.json"
            job.write_text(json.dumps([flat[i] for i in rows]))
            made = in_fresh_process(solve_tasks, {"source": str(source), "job": str(job)}, "Answering in float32")
        told(len(rows))
        return made

    theirs = evaluation.measured("answers in float32", len(flat), in_float32, keys, chunk=200)
    packed = [made for group in tasks.values() for made in solve(ours, group, evaluation.each)]
    right, right_float32 = ([g(made) for g, made in zip(grades, them, strict=True)] for them in (packed, theirs))
    names = [name for name, group in tasks.items() for _ in group]
    evaluation.save_items("text-ability", rows_of({"set": names, "right": right, "float32": right_float32}))
    figures, lost = [], []
    for name, group in tasks.items():
        rows = [i for i, each in enumerate(names) if each == name]
        mine, full = share([right[i] for i in rows]), share([right_float32[i] for i in rows])
        lost.append(100 * (full - mine))
        figures.append(Figure(f"{name.replace('_', '-')}-typed", mine, "share", None, full, len(group)))
    bar = evaluation.bar(base="<= 1.0", small="<= 1.0", mini="<= 0.0")
    return [Figure("text-ability-lost", statistics.fmean(lost), "points", bar, 0.0, len(flat)), *figures]


def solve_tasks(fields: dict[str, Any]) -> list[Any]:
    """In a fresh process: the float32 model's answers to tasks."""
    return solve(Reference(Path(fields["source"])), json.loads(Path(fields["job"]).read_text()))


def solve(side: Side, tasks: Sequence[Task], each: Callable[..., list[Any]] | None = None) -> list[Any]:
    """Of each task with options the number of the likeliest, per character; of each prompt the ids that follow.

    Args:
        side: the model.
        tasks: what to solve.
        each: does a work for each of some items, with progress, see `Evaluation.each`.
    """
    each = each or (lambda title, items, work: [work(item) for item in items])
    with torch.inference_mode():
        chosen = [i for i, task in enumerate(tasks) if "options" in task]
        found: dict[int, Any] = dict(zip(chosen, each("chooses", chosen, lambda i: likeliest(side, tasks[i]))))
        asked = [i for i, task in enumerate(tasks) if "prompt" in task]
        batches = [asked[at : at + ROWS] for at in range(0, len(asked), ROWS)]

        def answer(batch: list[int]) -> list[list[int]]:
            prompts = [tasks[i]["prompt"] for i in batch]
            return side.generate(prompts, tasks[batch[0]]["ends"], GENERATED_TOKENS)

        for batch, made in zip(batches, each("works out", batches, answer), strict=True):
            found |= dict(zip(batch, made))
    return [found[i] for i in range(len(tasks))]


def likeliest(side: Side, task: Task) -> int:
    """The option whose tokens are likeliest after the context, per character: that options are of different lengths
    shall not decide."""
    context, options = task["context"], task["options"]
    longest = max(map(len, options))
    tokens = torch.tensor([context + option + [0] * (longest - len(option)) for option in options])
    logits = log_softmax(side.logits(tokens)[:, len(context) - 1 : -1].float(), -1)
    scores = [
        float(row[torch.arange(len(option)), torch.tensor(option)].sum()) / length
        for row, option, length in zip(logits, options, task["lengths"], strict=True)
    ]
    return max(range(len(options)), key=scores.__getitem__)


def _tasks(evaluation: AssistantEvaluation, n: int) -> tuple[dict[str, list[Task]], list[Callable[[Any], bool]]]:
    """The tasks by set, and what says of each answer whether it is right."""
    from transformers import AutoTokenizer

    folder, thinker = evaluation.config.benchmarks, evaluation.model.thinker
    tasks: dict[str, list[Task]] = {"arc_easy": [], "piqa": [], "gsm8k": []}
    grades: list[Callable[[Any], bool]] = []
    for name in ("arc_easy", "piqa"):
        for choice in choices(folder, name, n):
            context = thinker.tokenizer.encode(f"Question: {choice.question}\nAnswer:").ids
            options = [thinker.tokenizer.encode(f" {option}").ids for option in choice.options]
            tasks[name].append({"context": context, "options": options, "lengths": list(map(len, choice.options))})
            grades.append(lambda made, right=choice.right: made == right)
    written = AutoTokenizer.from_pretrained(evaluation.thinker_folder)
    for question, number in problems(folder, n):
        prompt = written.apply_chat_template(
            [{"role": "user", "content": question}], add_generation_prompt=True, tokenize=False
        )
        ids = thinker.tokenizer.encode(prompt, add_special_tokens=False).ids
        tasks["gsm8k"].append({"prompt": ids, "ends": evaluation.ends})
        grades.append(lambda made, right=number: last_number(thinker.tokenizer.decode(made)) == right)
    return tasks, grades


def _pieces(evaluation: AssistantEvaluation, n: int) -> list[list[int]]:
    """Articles of an encyclopedia as ids: `n` pieces of `PIECE_TOKENS`, each of one paragraph after another."""
    paragraphs = dict.fromkeys(row["context"] for row in read_set(evaluation.config.benchmarks, "xquad_en"))
    ids: list[int] = []
    for paragraph in paragraphs:
        if len(ids) < n * PIECE_TOKENS:
            ids += evaluation.model.thinker.tokenizer.encode(f"{paragraph}\n\n").ids
    return [ids[at : at + PIECE_TOKENS] for at in range(0, n * PIECE_TOKENS, PIECE_TOKENS)]


def reference_of(evaluation: AssistantEvaluation) -> Path:
    """The weights that the thinker's were packed from, as a GGUF file or a folder of `transformers`.

    A thinker that isn't packed is its own reference.

    Raises:
        DataError: it is packed, and nobody said what from.
    """
    if evaluation.config.reference is not None:
        return evaluation.config.reference
    folder = evaluation.thinker_folder
    if "quantization_config" in json.loads((folder / "config.json").read_text(encoding="utf-8")):
        raise DataError(
            f"{folder} is packed, and is compared with what it was made from. Give the GGUF file, or a folder: "
            "--reference PATH."
        )
    return folder
