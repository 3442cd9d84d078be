"""Does how an answer is said follow from what was said and heard before it?

The same words are thought in two contexts, one of which decides a manner (`antiphon.data.speech.manners`; asked for in
words that no training has seen), and the talker reads the thinker's states. Speed and pitch have to move as they are
told, and where they aren't told, to stay; the words have to stay what they were. And where nothing decides a manner,
they are to be said as they are read from the page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from antiphon.audio.io import Audio
from antiphon.codecs.mini.model import MiniCodec
from antiphon.codecs.mini.vocoder import estimate_pitch
from antiphon.data.recordings import phones_of
from antiphon.data.scene.example import RATE, activity
from antiphon.data.speech.augment import Samples
from antiphon.data.speech.manners import Context, Manner, MannersConfig, drawn_answers, spoken_in
from antiphon.data.speech.speak import Speaker, mixed_sentences
from antiphon.data.speech.timed_codes import TimedCodes, timeline
from antiphon.data.speech.utterances import Utterance
from antiphon.data.states import beginnings
from antiphon.data.text.corpora import Sentence
from antiphon.dialogue.chat import joined
from antiphon.errors import DataError, EvalError
from antiphon.evals.assistant.answers import share
from antiphon.evals.assistant.evaluation import AssistantEvaluation
from antiphon.evals.harness import rows_of
from antiphon.evals.metrics.text import word_error_rate
from antiphon.evals.report import Figure
from antiphon.models.tts.talker import Talker
from antiphon.nn.delays import delay

ANSWERS = 4  # to each context
STAYS = 1.08  # a factor within which what isn't told to move may move
HOP = 240  # samples at 24 kHz from one estimate of the pitch to the next


@dataclass(frozen=True)
class Prosody:
    """How something is said.

    Attributes:
        seconds: from its first sound to its last.
        pitch: the middle one, Hz; 0 without a voice.
    """

    seconds: float
    pitch: float

    @classmethod
    def of(cls, audio: Audio) -> Prosody:
        """That of a sound."""
        heard = activity(audio.mono().resample(RATE).samples.numpy())
        samples = audio.mono().resample(24000).samples.float()
        pitch = estimate_pitch(F.pad(samples, (0, -len(samples) % HOP))[None], 24000, HOP)
        voiced = pitch[pitch > 0]
        seconds = heard[-1][1] - heard[0][0] if heard else 0.0
        return cls(seconds, float(voiced.median()) if len(voiced) else 0.0)


def moves(factor: float, told: float) -> bool:
    """Whether something moves by at least half of what it is told, in its direction; or stays, where it is told to."""
    if told == 1.0:
        return 1 / STAYS <= factor <= STAYS
    return factor > 0.0 and bool(np.log(factor) / np.log(told) >= 0.5)


def follows(plain: Prosody, changed: Prosody, manner: Manner) -> tuple[bool, bool]:
    """Whether speed, and pitch, of the same words are as a manner says."""
    if min(plain.seconds, changed.seconds, plain.pitch, changed.pitch) <= 0.0:
        return False, False
    return moves(plain.seconds / changed.seconds, manner.speed), moves(changed.pitch / plain.pitch, manner.pitch)


def pairs(texts: Path | None, n: int, seed: int = 0) -> list[tuple[Context, Context, Sentence]]:
    """A context that decides a manner, one that decides none, and what is answered in both, of the dev split.

    Raises:
        DataError: no texts.
    """
    if texts is None:
        raise DataError("There are no texts to say. Give the folder of the text sources: --texts FOLDER.")
    users, said = (mixed_sentences(texts, {role: 1.0}, "dev", seed) for role in ("user", "assistant"))
    config = MannersConfig(Path(), contexts=20 * n, answers=ANSWERS, split="dev", seed=seed)
    told: list[tuple[Context, Sentence]] = []
    plain: list[Context] = []
    for context, sentence in drawn_answers(config, users, said):
        if context.manner is not None and len(told) < n:
            told.append((context, sentence))
        elif context.turns and context.manner is None and (not plain or plain[-1] is not context):
            plain.append(context)
        if len(told) == n and len(plain) * ANSWERS >= n:
            break
    return [(context, plain[at // ANSWERS % len(plain)], sentence) for at, (context, sentence) in enumerate(told)]


def manner(evaluation: AssistantEvaluation, n: int) -> list[Figure]:
    """See the module; reference: the teacher, told the manner."""
    model, seed = evaluation.model, evaluation.config.seed
    if not (model.synthesizer.reads_thinker and model.talker.config.situation):
        raise EvalError("The talker of this model doesn't read its thinker: there is no manner to measure.")
    rows, speaker = pairs(evaluation.config.texts, n, seed), Speaker("hibari")
    config = MannersConfig(Path(), split="dev", seed=seed)
    words = [sentence.text for *_, sentence in rows]
    titles = ("in a manner", "plainly")
    begins = [begun_after(evaluation, title, [row[at] for row in rows]) for at, title in enumerate(titles)]
    told, plain = (said(evaluation, title, each, words) for title, each in zip(titles, begins))
    read = evaluation.each("reads", words, lambda text: model.say(text, seed=seed))
    taught = [spoken_in(context.manner, sentence, speaker, config) for context, _, sentence in rows]
    untaught = [spoken_in(None, sentence, speaker, config)[1] for *_, sentence in rows]

    prosody = [Prosody.of(each) for each in plain]
    followed = [follows(before, Prosody.of(b), context.manner) for before, b, (context, *_) in zip(prosody, told, rows)]
    stays = [follows(Prosody.of(a), after, Manner("plain")) for a, after in zip(read, prosody)]
    teacher = [
        follows(*(Prosody.of(Audio(torch.from_numpy(each), 24000)) for each in (a, b)), context.manner)
        for a, (_, b), (context, *_) in zip(untaught, taught, rows)
    ]
    heard_told, heard_plain = evaluation.transcribed("the manner", told), evaluation.transcribed("plain speech", plain)
    columns = {
        "text": words, "manner": [context.manner.name for context, *_ in rows],
        "context": [[turn.text for turn in context.turns] for context, *_ in rows],
        "speed": [speed for speed, _ in followed], "pitch": [pitch for _, pitch in followed],
        "stays": [all(each) for each in stays],
        "heard": heard_told, "heard_plain": heard_plain,
    }  # fmt: skip
    evaluation.save_items("manner", rows_of(columns))
    for number, (a, b) in enumerate(zip(plain, told)):
        evaluation.save_sound(f"manner-{number:03d}-plain", a)
        evaluation.save_sound(f"manner-{number:03d}-told", b)
    wer = word_error_rate(words, heard_plain)
    return [
        Figure("manner-follows", share([all(each) for each in followed]), "share", ">= 0.8",
               share([all(each) for each in teacher]), n),
        *(
            Figure(f"manner-{name}", share([each[at] for each in followed]), "share", None,
                   share([each[at] for each in teacher]), n)
            for at, name in enumerate(("speed", "pitch"))
        ),
        Figure("manner-plain", share([all(each) for each in stays]), "share", None, None, n),
        Figure("manner-wer-added", word_error_rate(words, heard_told) - wer, "WER", "<= 0.01", wer, n),
        *worth(evaluation, taught, list(zip(*begins))),
    ]  # fmt: skip


def begun_after(evaluation: AssistantEvaluation, title: str, contexts: Sequence[Context]) -> list[torch.Tensor]:
    """The states from which the thinker's replies begin in each context, [turns, hidden]; answers to one stand
    together."""
    thinker = evaluation.model.thinker
    groups = [(context, len(list(each))) for context, each in groupby(contexts)]
    found = evaluation.each(f"thinks {title}", groups, lambda each: beginnings(thinker, each[0].turns))
    return [begins for begins, (_, count) in zip(found, groups) for _ in range(count)]


def said(
    evaluation: AssistantEvaluation, title: str, begins: Sequence[torch.Tensor], texts: Sequence[str]
) -> list[Audio]:
    """Texts as the model says them where its replies begin like that."""
    synthesizer = evaluation.model.synthesizer

    def say(row: tuple[torch.Tensor, str]) -> Audio:
        states, text = row
        state = synthesizer.init_state(evaluation.config.seed, earlier=states[:-1] if len(states) > 1 else None)
        synthesizer.add(text, state, states[-1])
        synthesizer.end(state)
        return joined(list(iter(lambda: synthesizer.step(state), None)), synthesizer.sample_rate)

    return evaluation.each(f"says {title}", list(zip(begins, texts)), say)


def worth(
    evaluation: AssistantEvaluation,
    teacher: Sequence[tuple[Utterance, Samples]],
    begins: Sequence[tuple[torch.Tensor, torch.Tensor]],
) -> list[Figure]:
    """Nats by which the teacher's recordings in their manner are likelier with the state of their context than with
    that of a plain one: of all codes of a frame, given those before it.

    Args:
        evaluation: of the model.
        teacher: the recordings.
        begins: the states, [turns, hidden], from which replies begin in its context and in the plain one.
    """
    talker, codec = evaluation.model.talker, evaluation.model.codec

    def nats(row: tuple[tuple[Utterance, Samples], tuple[torch.Tensor, torch.Tensor]]) -> tuple[float, float, int]:
        (utterance, samples), (told, plain) = row
        example = timed(utterance, samples, codec, talker.config.lead)
        return likelihood(talker, example, told), likelihood(talker, example, plain), example.codes.shape[1]

    rows = list(zip(teacher, begins))
    told, plain, frames = (sum(each) for each in zip(*evaluation.each("likelihoods", rows, nats)))
    return [Figure("manner-nats", (plain - told) / frames, "nats a frame", ">= 0.1", told / frames, len(rows))]


def timed(utterance: Utterance, samples: Samples, codec: MiniCodec, lead: float) -> TimedCodes:
    """An utterance on the codec's clock, as a talker learns it."""
    cut = max(0.0, utterance.phonemes_start - lead)
    samples = samples[round(cut * 24000) :]
    codes = codec.encode(torch.from_numpy(samples)[None, None])[0].numpy()
    phones = [(phone, start - cut, end - cut) for phone, start, end in phones_of(utterance)]
    symbols, ends = timeline(phones, codes.shape[1] / codec.frame_rate)
    return TimedCodes(symbols, ends, codes, utterance.text, utterance.voice)


@torch.no_grad()
def likelihood(talker: Talker, example: TimedCodes, begins: torch.Tensor) -> float:
    """Nats of all codes of an utterance (less is likelier), given its text, its times and where replies begin."""
    codes = torch.from_numpy(example.codes[None, : talker.config.codebooks])
    grid = delay(codes, talker.config.delays, fill=-1)
    symbols = torch.from_numpy(example.symbols)[None]
    logits, _ = talker(
        symbols, torch.ones_like(symbols, dtype=torch.bool), torch.from_numpy(example.ends).float()[None], grid,
        torch.ones(grid.shape[0], grid.shape[2], dtype=torch.bool), begins[None],
    )  # fmt: skip
    targets = grid[0].T
    return sum(
        float(F.cross_entropy(scores.float(), targets[:, level], ignore_index=-1, reduction="sum"))
        for level, scores in enumerate(logits)
    )
