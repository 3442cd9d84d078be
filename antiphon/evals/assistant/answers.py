"""Whether the assistant answers well: easy questions aloud, general knowledge and follow-ups typed, and its manner."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

from antiphon.dialogue.events import Sampling
from antiphon.dialogue.tool_calls import Message
from antiphon.evals.assistant import material
from antiphon.evals.assistant.evaluation import AssistantEvaluation
from antiphon.evals.assistant.material import Clip
from antiphon.evals.cache import key_of
from antiphon.evals.harness import rows_of
from antiphon.evals.metrics.answers import FOLLOW_UPS, KNOWLEDGE_QUESTIONS, is_right, read_questions
from antiphon.evals.metrics.text import count_words, loops, token_f1
from antiphon.evals.report import Figure
from antiphon.evals.rows import spread

BARE_MAX_TOKENS = 48  # enough for a sentence or two; the bare model goes on for as long as it may
BARE_ROWS = 8  # of the bare model's replies that are thought together


def easy(evaluation: AssistantEvaluation, n: int) -> list[Figure]:
    """Easy questions, spoken; right where an accepted answer is in the reply. Reference: the bare model, typed."""
    asked = spread(read_questions(), n)
    questions = [row.question for row in asked]
    clips = material.spoken(questions, evaluation.cached("easy-questions"))
    heard, replies = _answers(evaluation, "answers easy questions", clips)
    bare = bare_replies(evaluation, questions)
    right, bare_right = (
        [is_right(reply, row.accept, row.question) for reply, row in zip(texts, asked, strict=True)]
        for texts in (replies, bare)
    )
    columns = {"question": questions, "heard": heard, "reply": replies, "right": right}
    evaluation.save_items("easy-answers-right", rows_of(columns | {"bare": bare, "bare_right": bare_right}))
    bar = evaluation.bar(base=">= 0.85", small=">= 0.68", mini=">= 0.5")
    return [Figure("easy-answers-right", share(right), "share", bar, share(bare_right), len(asked))]


def knowledge(evaluation: AssistantEvaluation, n: int) -> list[Figure]:
    """Short questions of general knowledge in five levels, typed; and each level's share."""
    asked = spread(read_questions(KNOWLEDGE_QUESTIONS), n)
    replies = evaluation.each("general knowledge", asked, lambda row: evaluation.model.reply_text(row.question))
    right = [is_right(reply, row.accept, row.question) for reply, row in zip(replies, asked, strict=True)]
    columns = {"question": [row.question for row in asked], "level": [row.level for row in asked]}
    columns |= {"accept": [list(row.accept) for row in asked], "reply": replies, "right": right}
    evaluation.save_items("knowledge-right", rows_of(columns))
    figures = [Figure("knowledge-right", share(right), "share", evaluation.bar(base=">= 0.75"), None, len(asked))]
    for level in sorted({row.level for row in asked}):
        of_level = [good for good, row in zip(right, asked, strict=True) if row.level == level]
        name = f"knowledge-right-level-{level}"
        figures.append(Figure(name, share(of_level), "share", None, None, len(of_level)))
    return figures


def follow_ups(evaluation: AssistantEvaluation, n: int) -> list[Figure]:
    """Typed conversations of two or three turns whose last question needs what was said before."""
    asked = spread(read_questions(FOLLOW_UPS), n)
    told = evaluation.each("follow-ups", asked, lambda row: conversation(evaluation.model, [*row.before, row.question]))
    right = [is_right(replies[-1], row.accept, row.question) for replies, row in zip(told, asked, strict=True)]
    columns = {"turns": [[*row.before, row.question] for row in asked], "category": [row.category for row in asked]}
    columns |= {"accept": [list(row.accept) for row in asked], "replies": told, "right": right}
    evaluation.save_items("followups-right", rows_of(columns))
    return [Figure("followups-right", share(right), "share", evaluation.bar(base=">= 0.85"), None, len(asked))]


def replies(evaluation: AssistantEvaluation, n: int) -> list[Figure]:
    """Replies to spoken test questions: their length, loops, and how like they are to those to the same words typed.

    References of length and loops: the bare model, typed, on the same questions (cut at 48 tokens).
    """
    clips = evaluation.questions(n)
    questions = [clip.text for clip in clips]
    heard, spoken = _answers(evaluation, "answers speech", clips)
    typed = evaluation.each("answers typing", questions, evaluation.model.reply_text)
    bare = bare_replies(evaluation, questions)
    f1 = [token_f1(a, b) for a, b in zip(typed, spoken, strict=True)]
    words, bare_words = (float(statistics.median(map(count_words, texts))) for texts in (spoken, bare))
    looping, bare_looping = ([loops(text) for text in texts] for texts in (spoken, bare))
    columns = {"question": questions, "heard": heard, "reply": spoken, "typed": typed, "f1": f1, "loops": looping}
    evaluation.save_items("replies", rows_of(columns | {"bare": bare}))
    loops_bar = evaluation.bar(base="<= 0", small="<= 0", mini="<= 0.02")
    agreement_bar = evaluation.bar(base=">= 0.85", small=">= 0.85", mini=">= 0.75")
    return [
        Figure("reply-words", words, "words, median", evaluation.bar(mini="<= 20"), bare_words, len(clips)),
        Figure("reply-loops", share(looping), "share", loops_bar, share(bare_looping), len(clips)),
        Figure("reply-agreement-f1", statistics.fmean(f1), "token F1", agreement_bar, None, len(clips)),
    ]


def conversation(model: Any, turns: Sequence[str]) -> list[str]:
    """The assistant's written answers to turns of one conversation, one after the other; greedy."""
    chat, past, answers = model.backend.chat(), [], []
    for turn in turns:
        past.append(Message("user", turn))
        answers.append(written(chat, past))
    return answers


def written(chat: Any, past: list[Message], max_tokens: int | None = None) -> str:
    """The answer to a past, in writing, which goes to the past's end; of at most so many tokens, or the model's own."""
    answer = chat.answer(past, None if max_tokens is None else Sampling(max_tokens=max_tokens), spoken=False)
    for _ in answer.events():
        pass
    if answer.message is not None:
        past.append(answer.message)
    return answer.text.strip()


def _answers(evaluation: AssistantEvaluation, title: str, clips: Sequence[Clip]) -> tuple[list[str], list[str]]:
    """What was heard in spoken questions, and the replies' texts: greedy, and without speaking them."""
    model = evaluation.model

    def answer(clip: Clip) -> tuple[str, str]:
        heard = model.hear(clip.audio)
        return heard.text, model.think(heard)

    answers = evaluation.each(title, clips, answer)
    return [heard for heard, _ in answers], [reply for _, reply in answers]


def bare_replies(evaluation: AssistantEvaluation, questions: Sequence[str]) -> list[str]:
    """The bare language model's greedy replies to typed questions: its own chat template, no adapters, no prompt of an
    assistant."""
    thinker, name = evaluation.model.thinker, evaluation.thinker_name

    def answer(rows: list[int], told: Callable[[int], Any]) -> list[str]:
        states = []
        for i in rows:
            states.append(thinker.init_state(voice=False))
            thinker.add_user(states[-1], questions[i])
        said = [""] * len(rows)
        with closing(thinker.stream_many(states, BARE_MAX_TOKENS)) as steps:
            for tokens in steps:
                for row, token in tokens.items():
                    said[row] += token.text
        told(len(rows))
        return [text.strip() for text in said]

    keys = [key_of("bare", name, str(BARE_MAX_TOKENS), question) for question in questions]
    return evaluation.measured("bare model answers", len(questions), answer, keys, chunk=BARE_ROWS)


def share(values: Sequence[bool]) -> float:
    """Of those that are true."""
    return sum(map(bool, values)) / len(values)
