"""How well the model answers: easy questions, length and loops of replies, and whether it answers what was said."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence

import torch
from torch import Tensor
from tqdm import tqdm

from antiphon.evals.assistant import material
from antiphon.evals.cache import key_of
from antiphon.evals.harness import Bench
from antiphon.evals.metrics.answers import is_right, read_questions
from antiphon.evals.metrics.text import count_words, loops, token_f1
from antiphon.evals.report import Figure

BARE_TOKENS = 48  # enough for a sentence or two; the bare model goes on for as long as it may
TEXT_TOKENS = 32
CLOSE = 1e-3  # logits nearer than this may change places between two ways of adding up the same products


def easy(bench: Bench, n: int) -> list[Figure]:
    """Easy questions, spoken; right where an accepted answer is in the reply. Reference: the bare model, typed."""
    rows = material.spread(read_questions(), n)
    clips = material.spoken([row.question for row in rows], bench.cached("easy-questions"))
    replies = bench.each("answers easy questions", clips, lambda clip: answer_speech(bench.model, clip.audio))
    bare = bare_replies(bench, [row.question for row in rows])
    right = [is_right(reply, row.accept) for (_, reply), row in zip(replies, rows, strict=True)]
    bare_right = [is_right(reply, row.accept) for reply, row in zip(bare, rows, strict=True)]
    bench.save_items(
        "easy-answers-right",
        [
            {"question": row.question, "heard": heard, "reply": reply, "right": a, "bare": other, "bare_right": b}
            for row, (heard, reply), a, other, b in zip(rows, replies, right, bare, bare_right, strict=True)
        ],
    )
    return [Figure("easy-answers-right", _share(right), "share", ">= 0.5", _share(bare_right), len(rows))]


def replies(bench: Bench, n: int) -> list[Figure]:
    """Replies to spoken test questions: their length, loops, and how like they are to those to the same words typed.

    References of length and loops: the bare model, typed, on the same questions (cut at 48 tokens).
    """
    clips = bench.questions(n)
    spoken = bench.each("answers speech", clips, lambda clip: answer_speech(bench.model, clip.audio))
    typed = bench.each("answers typing", clips, lambda clip: bench.model.reply_text(clip.text))
    bare = bare_replies(bench, [clip.text for clip in clips])
    f1 = [token_f1(b, a) for (_, a), b in zip(spoken, typed, strict=True)]
    words = [[count_words(text) for text in texts] for texts in ([a for _, a in spoken], bare)]
    looping = [[loops(text) for text in texts] for texts in ([a for _, a in spoken], bare)]
    bench.save_items(
        "replies",
        [
            {
                "question": c.text,
                "heard": heard,
                "reply": a,
                "typed": b,
                "f1": round(score, 3),
                "loops": loop,
                "bare": other,
            }
            for c, (heard, a), b, score, loop, other in zip(clips, spoken, typed, f1, looping[0], bare, strict=True)
        ],
    )
    median = [statistics.median(counts) for counts in words]
    return [
        Figure("reply-words", float(median[0]), "words, median", "<= 20", float(median[1]), len(clips)),
        Figure("reply-loops", _share(looping[0]), "share", "<= 0.02", _share(looping[1]), len(clips)),
        Figure("reply-agreement-f1", statistics.fmean(f1), "token F1", ">= 0.75", None, len(clips)),
    ]


def text_identical(bench: Bench, n: int) -> list[Figure]:
    """Typed questions in plain text mode: the same tokens as `transformers` generates from the untouched model?"""
    questions = [row.question for row in material.spread(read_questions(), n)]
    model, tokenizer = bench.bare
    ends = _ends(model)

    def same(question: str) -> bool:
        state = bench.model.thinker.init_state(voice=False)
        bench.model.thinker.add_user(state, question)
        ours = [token.token for token in bench.model.thinker.stream(state, TEXT_TOKENS)]
        prompt = _prompt(tokenizer, question)
        return is_greedy_reply(model, prompt, ours, ends, TEXT_TOKENS)

    identical = bench.each("text mode", questions, same)
    bench.save_items("text-identical", [{"question": q, "same": s} for q, s in zip(questions, identical, strict=True)])
    return [Figure("text-identical", _share(identical), "share", ">= 1.0", None, len(questions))]


def answer_speech(model, audio) -> tuple[str, str]:
    """(what was heard, the reply's text) for a spoken question: greedy, and without speaking the reply."""
    heard = model.hear(audio)
    return heard.text, model.think(heard)


def bare_replies(bench: Bench, questions: Sequence[str]) -> list[str]:
    """The untouched language model's greedy replies to typed questions, with its own chat template and nothing else."""
    llm = bench.config.parts.get("llm", "smollm2-135m-instruct")

    with tqdm(total=len(questions), desc="  bare model answers", unit="reply", file=sys.stderr, leave=False) as bar:

        def answer(rows: list[int]) -> list[str]:
            made = generate_together(*bench.bare, [questions[i] for i in rows])
            bar.update(len(rows))
            return made

        return bench.memo.all([key_of("bare", llm, str(BARE_TOKENS), q) for q in questions], answer, chunk=25)


@torch.inference_mode()
def generate_together(model, tokenizer, questions: Sequence[str]) -> list[str]:
    """Greedy replies of a `transformers` model to questions, in one batch, padded on the left."""
    prompts = [_prompt(tokenizer, question)[0] for question in questions]
    longest = max(len(p) for p in prompts)
    ids = torch.stack([torch.nn.functional.pad(p, (longest - len(p), 0)) for p in prompts])
    mask = torch.stack([torch.nn.functional.pad(torch.ones_like(p), (longest - len(p), 0)) for p in prompts])
    made = model.generate(
        ids, attention_mask=mask, do_sample=False, max_new_tokens=BARE_TOKENS, pad_token_id=min(_ends(model))
    )
    return [tokenizer.decode(row, skip_special_tokens=True).strip() for row in made[:, longest:]]


@torch.inference_mode()
def is_greedy_reply(model, prompt: Tensor, reply: Sequence[int], ends: set[int], max_tokens: int) -> bool:
    """Whether `reply` is what `model.generate` gives greedily, found with one forward pass where that is certain.

    A reply is the greedy one if each of its tokens is the likeliest after those before it, and an end follows. One pass
    over prompt and reply shows that; only where two tokens are nearly as likely, or where the pass finds a
    difference, is `generate` itself run and has the last word.

    Args:
        model: a `transformers` causal language model.
        prompt: [1, T] token ids.
        reply: at most `max_tokens` ids, with or without the end token.
        ends: ids that end a reply.
        max_tokens: where generation stops.
    """
    reply = list(reply)
    while reply and reply[-1] in ends:
        reply.pop()
    tokens = torch.cat([prompt, torch.tensor([reply], dtype=prompt.dtype)], dim=1)
    logits = model(tokens).logits[0, prompt.shape[1] - 1 :].float()
    top = logits.topk(2).values
    best = logits.argmax(-1).tolist()
    steps = len(reply) if len(reply) >= max_tokens else len(reply) + 1
    right = best[: len(reply)] == reply and (steps == len(reply) or best[len(reply)] in ends)
    if right and bool((top[:steps, 0] - top[:steps, 1] > CLOSE).all()):
        return True
    made = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        do_sample=False,
        max_new_tokens=max_tokens,
        pad_token_id=min(ends),
    )[0, prompt.shape[1] :].tolist()
    while made and made[-1] in ends:
        made.pop()
    return made == reply


def _prompt(tokenizer, question: str) -> Tensor:
    """[1, T] ids of the chat template around a question."""
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], add_generation_prompt=True, tokenize=False
    )
    return tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids


def _ends(model) -> set[int]:
    ends = model.generation_config.eos_token_id
    return set(ends) if isinstance(ends, list) else {ends}


def _share(values: Sequence[bool]) -> float:
    return sum(map(bool, values)) / len(values)
