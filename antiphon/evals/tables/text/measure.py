"""The text table: what a language model knows and can do, asked as lm-eval asks it.

Each set lies in a folder of the data's, with the official fields, as `.jsonl`, `.json` or `.csv`, packed (.gz) or not.
Where lm-eval has the task, its own YAML says how it is asked and judged, and only where its rows come from is ours;
`tasks/` has the others.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from antiphon.errors import ConfigError, DataError
from antiphon.evals.rows import find_files, read_rows, spread
from antiphon.evals.tables.items import Item, Measured, measured
from antiphon.evals.tables.text import code
from antiphon.evals.tables.text.sandbox import Outcome

OURS = Path(__file__).with_name("tasks")
HUB = "https://huggingface.co/datasets"
Row = Mapping[str, Any]


@dataclass(frozen=True)
class TextTask:
    """A set of the text table.

    Attributes:
        title: as papers write it.
        files: in the set's folder, as patterns.
        lm_eval: names the lm-eval task of a row: takes the row and its file's name without endings.
        where: lm-eval's folder of the task; "" where the task is ours.
        metric: what is told, as lm-eval names it.
        source: where the set is to be had.
        picks: of several ways to find the answer in a reply, the one that counts; "" where there is one.
        row: makes of a row of the folder one that lm-eval's YAML reads; None leaves it out.
        chat: asked through the chat template; those that are scored by likelihood aren't.
        judge: runs the code of a reply.
        examples: files with the examples that stand before a question, if they are there; else none do.
        changes: of lm-eval's YAML.
        left: which rows are left out.
        note: what is other than in papers.
    """

    title: str
    files: tuple[str, ...]
    lm_eval: Callable[[Row, str], str]
    where: str
    metric: str
    source: str
    picks: str = ""
    row: Callable[[Row], Row | None] = dict
    chat: bool = False
    judge: Callable[[Row, str], Outcome] | None = None
    examples: tuple[str, ...] = ()
    changes: Mapping[str, Any] | None = None
    left: str = ""
    note: str = ""


def _redux(row: Row) -> Row | None:
    """Those that its reviewers found in order."""
    return row if str(row["error_type"]).strip().lower() == "ok" else None


def _truthful(row: Row) -> Row:
    """TruthfulQA.csv as the multiple choices made of it."""
    if "mc1_targets" in row:
        return row
    split = lambda names: [name.strip() for name in names.split(";") if name.strip()]  # noqa: E731
    right, wrong = split(row["Correct Answers"]), split(row["Incorrect Answers"])
    one = [row["Best Answer"].strip(), *wrong]
    return {
        "question": row["Question"],
        "mc1_targets": {"choices": one, "labels": [1] + [0] * len(wrong)},
        "mc2_targets": {"choices": [*right, *wrong], "labels": [1] * len(right) + [0] * len(wrong)},
    }


def _hellaswag(row: Row) -> Row:
    if "query" in row:
        return {**row, "label": str(row["gold"])}
    from lm_eval.tasks.hellaswag.utils import preprocess

    query = preprocess(f"{row['activity_label']}: {row['ctx_a']} {row['ctx_b'].capitalize()}")
    return {"query": query, "choices": [preprocess(end) for end in row["endings"]], "label": str(row["label"])}


def _ifeval(row: Row) -> Row | None:
    """Sentences can be counted as IFEval counts them only where NLTK's data is installed."""
    import nltk

    try:
        nltk.data.find("tokenizers/punkt_tab")
    except LookupError:
        needs = ("length_constraints:number_sentences", "change_case:capital_word_frequency")
        return None if set(needs) & set(row["instruction_id_list"]) else row
    return row


def _gpqa(row: Row) -> Row:
    keys = ("Question", "Correct Answer", *(f"Incorrect Answer {number}" for number in (1, 2, 3)))
    return {key: row[key] for key in keys}


def _named(name: str) -> Callable[[Row, str], str]:
    return lambda row, file: name


def _plain(title: str, files: tuple[str, ...], where: str, metric: str, source: str, **more: Any) -> TextTask:
    return TextTask(title, files, more.pop("lm_eval"), where, metric, f"{HUB}/{source}", **more)


TASKS: dict[str, TextTask] = {
    "mmlu_pro": _plain(
        "MMLU-Pro", ("test*",), "mmlu_pro", "exact_match", "TIGER-Lab/MMLU-Pro", picks="custom-extract", chat=True,
        lm_eval=lambda row, file: f"mmlu_pro_{row['category'].replace(' ', '_')}", examples=("validation*",),
    ),
    "mmlu_redux": _plain(
        "MMLU-redux", ("mmlu_*", "data*"), "mmlu-redux/generative", "exact_match", "edinburgh-dawg/mmlu-redux-2.0",
        picks="default", chat=True, lm_eval=lambda row, file: f"mmlu_redux_{file.removeprefix('mmlu_')}_generative",
        row=_redux, left="which its reviewers found faulty",
    ),
    "mmlu": _plain(
        "MMLU", ("*",), "mmlu/default", "acc", "cais/mmlu", lm_eval=lambda row, file: f"mmlu_{row['subject']}",
    ),
    "gpqa": _plain(
        "GPQA", ("gpqa_diamond*", "gpqa_main*"), "gpqa/cot_zeroshot", "exact_match", "Idavidrein/gpqa",
        picks="flexible-extract", chat=True, lm_eval=lambda row, file: f"{file}_cot_zeroshot", row=_gpqa,
    ),
    "math": _plain(
        "MATH-500", ("test*",), "minerva_math", "math_verify", "HuggingFaceH4/MATH-500", chat=True,
        lm_eval=_named("minerva_math500"), note="the 500 problems of MATH-500, not all 5,000 of MATH",
    ),
    "gsm8k": _plain(
        "GSM8K", ("test*",), "gsm8k", "exact_match", "openai/gsm8k", picks="flexible-extract", chat=True,
        lm_eval=_named("gsm8k_cot"),
    ),
    "humaneval": _plain(
        "HumanEval", ("HumanEval*", "test*"), "", "pass@1", "openai/openai_humaneval", chat=True,
        lm_eval=_named("antiphon_humaneval"), judge=code.humaneval,
    ),
    "mbpp": _plain(
        "MBPP", ("mbpp*",), "", "pass@1", "google-research-datasets/mbpp", chat=True,
        lm_eval=_named("antiphon_mbpp"), judge=code.mbpp, row=lambda row: row if 11 <= row["task_id"] <= 510 else None,
        left="which aren't of the test split",
    ),
    "multipl_e": _plain(
        "MultiPL-E", ("humaneval-*",), "", "pass@1", "nuprl/MultiPL-E", lm_eval=_named("antiphon_multipl_e"),
        judge=code.multipl_e, row=lambda row: row if code.runs_here(row["language"]) else None,
        left="in languages that this machine doesn't run",
    ),
    "livecodebench": _plain(
        "LiveCodeBench", ("test*",), "", "pass@1", "livecodebench/code_generation_lite", chat=True,
        lm_eval=_named("antiphon_livecodebench"), judge=code.livecodebench,
    ),
    "arc_easy": _plain("ARC-Easy", ("test*",), "arc", "acc_norm", "allenai/ai2_arc", lm_eval=_named("arc_easy")),
    "arc_challenge": _plain(
        "ARC-Challenge", ("test*",), "arc", "acc_norm", "allenai/ai2_arc", lm_eval=_named("arc_challenge")
    ),
    "openbookqa": _plain(
        "OpenBookQA", ("test*",), "openbookqa", "acc_norm", "allenai/openbookqa", lm_eval=_named("openbookqa")
    ),
    "piqa": _plain("PIQA", ("validation*",), "piqa", "acc_norm", "ybisk/piqa", lm_eval=_named("piqa")),
    "hellaswag": _plain(
        "HellaSwag", ("validation*",), "hellaswag", "acc_norm", "Rowan/hellaswag", lm_eval=_named("hellaswag"),
        row=_hellaswag, changes={"process_docs": None},
    ),
    "winogrande": _plain(
        "WinoGrande", ("validation*",), "winogrande", "acc", "allenai/winogrande", lm_eval=_named("winogrande")
    ),
    "boolq": _plain(
        "BoolQ", ("validation*",), "super_glue/boolq", "acc", "google/boolq", lm_eval=_named("boolq"),
        row=lambda row: {**row, "label": int(row.get("label", row.get("answer")))},
    ),
    "bbh": _plain(
        "BBH", ("*",), "bbh/cot_fewshot", "exact_match", "SaylorTwift/bbh", picks="get-answer", chat=True,
        lm_eval=lambda row, file: f"bbh_cot_fewshot_{file}",
    ),
    "ifeval": _plain(
        "IFEval", ("input_data*", "train*"), "ifeval", "prompt_level_strict_acc", "google/IFEval", chat=True,
        lm_eval=_named("ifeval"), row=_ifeval,
        left="whose sentences can't be counted without NLTK's punkt_tab",
    ),
    "truthfulqa": _plain(
        "TruthfulQA (MC1)", ("TruthfulQA*", "validation*"), "truthfulqa", "acc", "truthfulqa/truthful_qa",
        lm_eval=_named("truthfulqa_mc1"), row=_truthful,
    ),
}  # fmt: skip
# What the papers' tables have and no one here can be asked, and why.
NOT_MEASURED = {
    "livebench": f"LiveBench: its rows are to be had at {HUB}/livebench, its judges of each kind aren't here",
}


@dataclass(frozen=True)
class Asked:
    """What a set's questions are, by lm-eval's tasks.

    Attributes:
        rows: of each task, those that are asked.
        size: how many there are in the folder.
        left: how many the task leaves out.
        examples: of each task, the rows that stand before a question.
    """

    rows: dict[str, list[Row]]
    size: int
    left: int
    examples: dict[str, list[Row]]


def questions(name: str, data: Path, n: int | None) -> Asked:
    """The questions of a set in the data's folder, `n` at even distances.

    Raises:
        ConfigError: a task that isn't known.
        DataError: the set isn't there, or not in its official layout; tells where it is to be had.
    """
    if name in NOT_MEASURED:
        raise DataError(f"{name}: {NOT_MEASURED[name]}.")
    if name not in TASKS:
        raise ConfigError(f"There is no task {name!r}. Tasks: {', '.join((*TASKS, *NOT_MEASURED))}.")
    task, folder = TASKS[name], data / _folder(name, data)
    skipped = {path for example in task.examples for path in find_files(folder, example)}
    files = [path for path in find_files(folder, *task.files) if path not in skipped]
    if not files:
        raise DataError(f"{name}: not here ({folder} has no {' or '.join(task.files)}); to be had at {task.source}.")
    found: list[tuple[str, Row]] = []
    size, shown = 0, []
    for path in files:
        stem = path.name.partition(".")[0]
        for number, row in enumerate(read_rows(path), 1):
            size += 1
            try:
                made = task.row(row)
                if made is not None:
                    found.append((task.lm_eval(row, stem), made))
                elif name == "mbpp" and 2 <= row["task_id"] <= 4:
                    shown.append((task.lm_eval(row, stem), row))
            except (KeyError, ValueError, TypeError, AttributeError) as error:
                raise DataError(
                    f"{path}, line {number} isn't in the official layout ({error!r}): get the set from {task.source}."
                ) from error
    if not found:
        raise DataError(f"{name}: none of the {size} rows in {folder} can be asked here.")
    for path in sorted(skipped):
        shown += [(task.lm_eval(row, path.name.partition(".")[0]), row) for row in read_rows(path)]
    rows = by_task(spread(found, n) if n is not None else found)
    return Asked(rows, size, size - len(found) - (len(shown) if name == "mbpp" else 0), by_task(shown))


def by_task(pairs: Iterable[tuple[str, Row]]) -> dict[str, list[Row]]:
    """Rows by their task."""
    found: dict[str, list[Row]] = {}
    for name, row in pairs:
        found.setdefault(name, []).append(row)
    return found


def _folder(name: str, data: Path) -> str:
    return "math500" if name == "math" and not (data / "math").is_dir() else name


def measure_text(
    name: str,
    lm: Any,
    data: Path,
    n: int | None = None,
    seed: int = 0,
    allow_code: bool = False,
    max_tokens: int | None = None,
) -> tuple[Measured, list[Item]]:
    """Asks a model (`lm_eval.api.model.LM`) a set of the text table.

    Args:
        name: of the task.
        lm: the model.
        data: folder of the sets.
        n: questions at most, at even distances over the whole set; None asks all.
        seed: of everything drawn.
        allow_code: code that the model wrote may be run, confined.
        max_tokens: of a reply, in place of the task's own number.

    Raises:
        ConfigError: a task that isn't known, or one with code without leave to run it.
        DataError: see `questions`.
    """
    import lm_eval
    from lm_eval.tasks import TaskManager

    asked, task = questions(name, data, n), TASKS[name]
    if task.judge and not allow_code:
        raise ConfigError(f"{name} runs code that the model wrote: say --allow-code to have that done in a sandbox.")
    logging.getLogger("lm_eval").setLevel(logging.ERROR)  # it tells of every setting
    place = Path(lm_eval.__file__).parent / "tasks" / task.where if task.where else OURS
    manager = TaskManager(include_path=str(place), include_defaults=False)
    group = {
        "group": f"antiphon_table_{name}",
        "task": [_configured(task, sub, rows, asked.examples.get(sub, [])) for sub, rows in asked.rows.items()],
    }
    start = time.perf_counter()
    result = lm_eval.simple_evaluate(
        lm, tasks=[group], task_manager=manager, log_samples=True, bootstrap_iters=0, apply_chat_template=task.chat,
        fewshot_as_multiturn=task.chat, random_seed=seed, numpy_random_seed=seed, torch_random_seed=seed,
        fewshot_random_seed=seed, gen_kwargs=None if max_tokens is None else {"max_gen_toks": max_tokens},
    )  # fmt: skip
    seconds = time.perf_counter() - start
    items, more = [], {}
    for sub in asked.rows:
        for sample in result["samples"][sub]:
            if sample["filter"] == (task.picks or sample["filter"]):
                items.append(_item(task, sub, sample, seed))
    shots = {result["n-shot"][sub] for sub in asked.rows}
    notes = [f"{'-'.join(map(str, sorted(shots)))} examples before a question"]
    notes += [task.note] if task.note else []
    if asked.left:
        notes.append(f"without {asked.left} of {asked.size} rows, {task.left}")
    for key in sorted({key for item in items for key, value in item.more.items() if isinstance(value, float)}):
        values = [item.more[key] for item in items if key in item.more]
        more[key] = 100 * sum(values) / len(values)
    figure = measured(
        items, task=name, title=task.title, row="text", metric=task.metric, size=asked.size, seconds=seconds,
        notes=tuple(notes), more=more,
    )  # fmt: skip
    return figure, items


def _configured(task: TextTask, name: str, rows: Sequence[Row], examples: Sequence[Row]) -> dict[str, Any]:
    """lm-eval's task, with our rows in place of the hub's."""
    import datasets

    def ours(**_: Any) -> dict[str, Any]:
        splits = {"test": rows, **({"prompt": examples} if examples else {})}
        return {split: datasets.Dataset.from_list([dict(row) for row in own]) for split, own in splits.items()}

    changed: dict[str, Any] = {
        "task": name, "custom_dataset": ours, "training_split": None, "validation_split": None, "test_split": "test",
        "dataset_kwargs": None,
    }  # fmt: skip
    if task.examples:
        changed |= {"fewshot_split": "prompt"} if examples else {"num_fewshot": 0, "fewshot_split": None}
        if not examples:
            changed["fewshot_config"] = None
    elif name.startswith("mmlu_") and not task.chat:
        changed |= {"num_fewshot": 0, "fewshot_split": None, "fewshot_config": None}
    if task.judge:
        changed["process_results"] = lambda doc, results: _run(task, doc, results[0])
    return changed | dict(task.changes or {})


def _run(task: TextTask, doc: Row, reply: str) -> dict[str, float]:
    assert task.judge is not None
    return {"pass@1": float(task.judge(doc, reply).passed)}


def _item(task: TextTask, name: str, sample: Mapping[str, Any], seed: int) -> Item:
    """What lm-eval logs of a question, as ours."""
    arguments = sample["arguments"]
    prompt, given = arguments[0][0], sample["filtered_resps"]
    scores = {key: sample[key] for key in sample["metrics"]}
    if isinstance(given, list) and len(given) > 1:  # likelihoods of the options
        chances = [float(pair[0]) for pair in given]
        answer = str(arguments[max(range(len(chances)), key=chances.__getitem__)][1]).strip()
        extra: dict[str, Any] = {"chances": [round(chance, 4) for chance in chances]}
    else:
        answer = str(sample["resps"][0][0])
        extra = {"found": str(given[0] if isinstance(given, list) else given)}
    plain = {key: float(value) for key, value in scores.items() if isinstance(value, (int, float, bool))}
    return Item(
        id=f"{name}/{sample['doc_id']}", prompt=prompt, answer=answer, target=str(sample["target"]),
        score=plain[task.metric], seed=seed,
        more={**{key: value for key, value in plain.items() if key != task.metric}, **extra},
    )  # fmt: skip
