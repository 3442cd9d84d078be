"""What an Omni says aloud, judged by Whisper; what it answers to spoken questions; how soon it begins to speak.

A sentence is said as the thinker would think it in a chat, so that the talker reads its states.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

import torch

from antiphon import hub
from antiphon.audio.io import Audio
from antiphon.codecs.mini.model import MiniCodec
from antiphon.data.omni.make import MAKERS, Item
from antiphon.data.omni.pictures import Ask
from antiphon.data.speech.voices.base import HibariVoice
from antiphon.data.states import ASKED
from antiphon.dialogue.chat import joined
from antiphon.dialogue.events import Sampling
from antiphon.dialogue.omni import OmniBackend
from antiphon.errors import EvalError
from antiphon.evals.assistant.material import assistant_texts
from antiphon.evals.assistant.speed import MAX_WAIT_SECONDS, time_to_first_audio, trim_end
from antiphon.evals.harness import rows_of
from antiphon.evals.metrics.text import word_error_rate
from antiphon.evals.omni.questions import MAX_TOKENS, OmniEvaluation, asked, is_right, whole
from antiphon.evals.report import Figure
from antiphon.models.omni.model import ReplySettings
from antiphon.models.omni.speech import Manner
from antiphon.models.tts.phonemes import Phonemizer
from antiphon.models.tts.synthesizer import Synthesizer
from antiphon.models.tts.talker import Talker


def say(evaluation: OmniEvaluation, n: int) -> list[Figure]:
    """Sentences, and its own replies to questions about pictures; reference: mini's voice, of the same words, which
    reads the text alone."""
    seed = evaluation.config.seed
    sentences = assistant_texts(evaluation.config.texts, n)
    sounds = evaluation.each("says", sentences, lambda text: thought_aloud(evaluation.backend, text, seed))
    replies = evaluation.each("replies", asked(evaluation, "picture", n), lambda row: _reply(evaluation, row))
    replies = [(text, sound) for text, sound in replies if any(letter.isalpha() for letter in text)]
    if not replies:
        raise EvalError(f"It replied to none of {n} questions in words.")
    texts, sounds = [*sentences, *(text for text, _ in replies)], [*sounds, *(sound for _, sound in replies)]
    heard = evaluation.transcribed("the model", sounds)
    mini = Synthesizer(
        Talker.from_pretrained(hub.folder("talker")), MiniCodec.from_pretrained(hub.folder("codec")), Phonemizer()
    )
    others = evaluation.each("mini says", texts, lambda text: joined(list(mini.say(text, seed)), mini.sample_rate))
    others_heard = evaluation.transcribed("mini", others, reference=True)
    evaluation.save_items("say-omni", rows_of({"text": texts, "heard": heard, "mini": others_heard}))
    for number, sound in enumerate(sounds):
        evaluation.save_sound(f"say-omni-{number:03d}", sound)
    count = len(sentences)
    parts = {"": slice(None), "-sentences": slice(0, count), "-replies": slice(count, None)}
    return [
        Figure(
            f"say-wer-omni{name}", word_error_rate(texts[part], heard[part]), "WER", None if name else "<= 0.15",
            word_error_rate(texts[part], others_heard[part]), len(texts[part]),
        )
        for name, part in parts.items()
    ]  # fmt: skip


def thought_aloud(backend: OmniBackend, text: str, seed: int = 0) -> Audio:
    """A text as the model says it in a reply: thought token by token, so that its talker reads the thinker's states."""
    model, processor = backend.model, backend.processor
    state = model.init_state()
    model.read(state, processor([*processor.opening(), {"role": "user", "content": ASKED}]))
    script = tuple(processor.plain.encode(text, add_special_tokens=False).ids)
    settings = ReplySettings(len(script) + 1, ends=processor.ends, script=script)
    made = backend.speaking().speak(state, settings, Manner(seed=seed)).events()
    return joined([each for each in made if isinstance(each, torch.Tensor)], backend.sample_rate)


def _reply(evaluation: OmniEvaluation, row: tuple[Item, Ask, str]) -> tuple[str, Audio]:
    """What it answers aloud to a question about an item."""
    item, _, question = row
    with tempfile.TemporaryDirectory() as scratch:
        seen = [whole(content, Path(scratch)) for content in item.contents(Path(scratch), "item")]
        chat = evaluation.model.chat(Sampling(seed=evaluation.config.seed, max_tokens=MAX_TOKENS))
        reply = chat.say_contents([*seen, {"type": "text", "text": question}])
    return reply.text, reply.audio


def spoken_questions(evaluation: OmniEvaluation, n: int) -> list[Figure]:
    """Share of questions about pictures, videos and sounds that are answered rightly when they are spoken, by the
    teacher of our voice; reference: the same typed."""
    each = -(-n // len(MAKERS))
    rows = [row for maker in MAKERS for row in asked(evaluation, maker, each)][:n]
    voice = HibariVoice()

    def answers(row: tuple[Item, Ask, str]) -> tuple[str, str, str]:
        item, _, question = row
        hearing = evaluation.backend.heard(_said(voice, question))
        typed = {"type": "text", "text": question}
        with tempfile.TemporaryDirectory() as scratch:
            spoken = evaluation.ask(item, hearing.content(), Path(scratch)) if hearing.is_speech else ""
            return hearing.text, spoken, evaluation.ask(item, typed, Path(scratch))

    heard, spoken, typed = zip(*evaluation.each("spoken questions", rows, answers), strict=True)
    asks = [ask for _, ask, _ in rows]
    right, right_typed = ([is_right(reply, ask) for reply, ask in zip(some, asks)] for some in (spoken, typed))
    columns = {"question": [question for *_, question in rows], "heard": heard, "reply": spoken, "right": right}
    columns |= {"typed": typed, "right-typed": right_typed, "wanted": [ask.reply for ask in asks]}
    evaluation.save_items("spoken-questions-right", rows_of(columns))
    share, reference = sum(right) / len(rows), sum(right_typed) / len(rows)
    return [Figure("spoken-questions-right", share, "share", None, reference, len(rows))]


def first_audio(evaluation: OmniEvaluation, n: int) -> list[Figure]:
    """Seconds from the end of a spoken question to the first sound of the answer, in a live session."""
    voice = HibariVoice()
    clips = [trim_end(_said(voice, question)) for *_, question in asked(evaluation, "picture", n)]
    time_to_first_audio(evaluation.model, clips[0])  # the first answer of a process pays for lazy set-up
    waits = evaluation.each("live questions", clips, lambda clip: time_to_first_audio(evaluation.model, clip))
    if min(waits) >= MAX_WAIT_SECONDS:
        raise EvalError(f"No question was answered aloud within {MAX_WAIT_SECONDS:.0f} s.")
    return [Figure("first-audio-omni-s", statistics.median(waits), "s, median", None, None, len(waits))]


def _said(voice: HibariVoice, text: str) -> Audio:
    return Audio(torch.from_numpy(voice.speak(text).samples), voice.sample_rate)
