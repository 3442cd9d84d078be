"""Every figure that the assistant must show, with the teacher or reference beside it (`antiphon eval assistant`)."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from antiphon.audio.io import Audio
from antiphon.errors import EvalError
from antiphon.evals.assistant import answers, benchmarks, manner, material, packed, speed, spoken_form, tools, turns
from antiphon.evals.assistant.evaluation import AssistantEvaluation
from antiphon.evals.assistant.material import Clip
from antiphon.evals.harness import Group, rows_of
from antiphon.evals.metrics.answers import read_questions
from antiphon.evals.metrics.speech import log_mel_distance, mean_delta, stoi
from antiphon.evals.metrics.text import word_error_rate
from antiphon.evals.report import Figure
from antiphon.evals.rows import spread

TEXT_MAX_TOKENS = 32
CLOSE_LOGITS = 1e-3  # nearer ones may change places between two ways of adding up the same products


def unseen_voices(evaluation: AssistantEvaluation, n: int) -> list[Figure]:
    """Word error rate of `hear` on spoken questions by voices that no training set has."""
    return _hear(evaluation, "hear-wer-unseen-voices", "<= 0.10", evaluation.questions(n))


def real_speech(evaluation: AssistantEvaluation, n: int) -> list[Figure]:
    """The same on prompts by a real person."""
    return _hear(evaluation, "hear-wer-real-speech", "<= 0.20", evaluation.prompts(n))


def _hear(evaluation: AssistantEvaluation, name: str, bar: str, clips: list[Clip]) -> list[Figure]:
    """WER of `hear`, and beside it that of the adapter's draft before Whisper's decoder checked it; reference: Whisper
    base on the same sound."""
    texts = [clip.text for clip in clips]
    heard = evaluation.each("model hears", clips, lambda clip: evaluation.model.hear(clip.audio))
    ours, drafts = [h.text for h in heard], [h.drafted for h in heard]
    whisper = evaluation.transcribed("the same", [clip.audio for clip in clips], reference=True)
    columns = {"id": [c.id for c in clips], "voice": [c.voice for c in clips], "text": texts, "heard": ours}
    columns |= {"draft": drafts, "whisper": whisper, "wer": [_wer(a, b) for a, b in zip(texts, ours)]}
    evaluation.save_items(name, rows_of(columns))
    reference = word_error_rate(texts, whisper)
    return [
        Figure(name, word_error_rate(texts, ours), "WER", bar, reference, len(clips)),
        Figure(f"{name}-adapter-alone", word_error_rate(texts, drafts), "WER", None, reference, len(clips)),
    ]


def _wer(said: str, heard: str) -> float:
    try:
        return word_error_rate([said], [heard])
    except ValueError:  # nothing but punctuation
        return 0.0


def text_identical(evaluation: AssistantEvaluation, n: int) -> list[Figure]:
    """Typed questions in plain text mode: the same tokens as `transformers` generates from the untouched model?"""
    from transformers import AutoTokenizer

    questions = [row.question for row in spread(read_questions(), n)]
    model = packed.Reference(packed.reference_of(evaluation)).model
    tokenizer = AutoTokenizer.from_pretrained(evaluation.thinker_folder)
    thinker, ends = evaluation.model.thinker, set(evaluation.ends)

    def same(question: str) -> bool:
        state = thinker.init_state(voice=False)
        thinker.add_user(state, question)
        ours = [each.token for each in thinker.stream(state, TEXT_MAX_TOKENS)]
        return is_greedy_reply(model, _prompt(tokenizer, question), ours, ends, TEXT_MAX_TOKENS)

    identical = evaluation.each("text mode", questions, same)
    evaluation.save_items("text-identical", rows_of({"question": questions, "same": identical}))
    return [
        Figure("text-identical", answers.share(identical), "share", evaluation.bar(mini=">= 1.0"), None, len(questions))
    ]


def say(evaluation: AssistantEvaluation, n: int) -> list[Figure]:
    """Sentences that an assistant says, in our voice; reference: the teacher on the same texts."""
    clips = evaluation.teacher(n)
    sounds, columns, wer = _said(evaluation, "say-wer", "<= 0.12", clips)
    spoken = [clip.audio for clip in clips]
    ours, teachers = evaluation.dnsmos("the model", sounds), evaluation.dnsmos("the teacher", spoken, reference=True)
    _save_spoken(evaluation, "say", clips, sounds, columns | {"dnsmos": ours, "teacher_dnsmos": teachers})
    return [
        wer,
        Figure("say-dnsmos-delta", mean_delta(ours, teachers), "OVRL", ">= -0.4", 0.0, len(clips)),
        Figure("say-dnsmos", statistics.fmean(ours), "OVRL", None, statistics.fmean(teachers), len(clips)),
    ]


def say_voices(evaluation: AssistantEvaluation, n: int) -> list[Figure]:
    """The same in each voice of a talker that has several, beside the teacher that it is named after."""
    voices = evaluation.model.synthesizer.voices
    if not voices:
        raise EvalError("The talker of this model has one voice without a name: `say` measures it.")
    texts, figures, added = material.assistant_texts(evaluation.config.texts, n), [], []
    for voice in voices:
        clips = material.teacher_speaks(texts, voice)
        sounds, columns, wer = _said(evaluation, f"say-wer-{voice}", None, clips, voice)
        ours = evaluation.dnsmos(voice, sounds)
        teachers = evaluation.dnsmos(f"{voice}'s teacher", [clip.audio for clip in clips], reference=True)
        _save_spoken(evaluation, f"say-{voice}", clips, sounds, columns | {"dnsmos": ours, "teacher_dnsmos": teachers})
        delta = Figure(f"say-dnsmos-delta-{voice}", mean_delta(ours, teachers), "OVRL", None, 0.0, n)
        figures += [wer, delta]
        added.append((wer.value - wer.reference, delta.value))
    return [
        Figure("say-wer-added-voices", max(wer for wer, _ in added), "WER, worst voice", "<= 0.01", 0.0, n),
        Figure("say-dnsmos-delta-voices", min(delta for _, delta in added), "OVRL, worst voice", ">= -0.2", 0.0, n),
        *figures,
    ]


def say_hard(evaluation: AssistantEvaluation, n: int) -> list[Figure]:
    """Hard sentences in our voice; reference: the teacher on the same texts."""
    clips = material.teacher_speaks(material.hard_sentences(n))
    sounds, columns, wer = _said(evaluation, "say-wer-hard", None, clips)
    _save_spoken(evaluation, "say-hard", clips, sounds, columns)
    return [wer]


def _said(
    evaluation: AssistantEvaluation, name: str, bar: str | None, clips: list[Clip], voice: str | None = None
) -> tuple[list[Audio], dict[str, list], Figure]:
    """The model's own sound of each text, what is heard in it and in the teacher's, and the word error rate."""
    texts = [clip.text for clip in clips]
    sounds = evaluation.each(
        "says", texts, lambda text: evaluation.model.say(text, evaluation.config.seed, voice=voice)
    )
    heard = evaluation.transcribed("the model", sounds)
    teacher_heard = evaluation.transcribed("the teacher", [clip.audio for clip in clips], reference=True)
    wer, teacher_wer = word_error_rate(texts, heard), word_error_rate(texts, teacher_heard)
    columns = {"heard": heard, "teacher_heard": teacher_heard}
    return sounds, columns, Figure(name, wer, "WER", bar, teacher_wer, len(clips))


def codec(evaluation: AssistantEvaluation, n: int) -> list[Figure]:
    """The teacher's voice through the codec and back; reference: the teacher's voice untouched."""
    clips = evaluation.teacher(n)
    texts, spoken = [clip.text for clip in clips], [clip.audio for clip in clips]
    sounds = evaluation.each("through the codec", spoken, lambda audio: round_trip(evaluation.model.codec, audio))
    heard = evaluation.transcribed("the codec", sounds)
    before = evaluation.transcribed("the teacher", spoken, reference=True)
    scores, distances = ([measure(a, b) for a, b in zip(spoken, sounds)] for measure in (stoi, log_mel_distance))
    columns = {"heard": heard, "before": before, "stoi": scores, "log_mel": distances}
    _save_spoken(evaluation, "codec", clips, sounds, columns)
    wer, wer_before = word_error_rate(texts, heard), word_error_rate(texts, before)
    return [
        Figure("codec-wer-added", wer - wer_before, "WER", "<= 0.02", wer_before, len(clips)),
        Figure("codec-stoi", statistics.fmean(scores), "STOI", ">= 0.92", 1.0, len(clips)),
        Figure("codec-log-mel-distance", statistics.fmean(distances), "nats", None, 0.0, len(clips)),
    ]


@torch.inference_mode()
def round_trip(codec: Any, audio: Audio) -> Audio:
    """Sound through codes and back, at the codec's sample rate and its own length."""
    audio = audio.mono().resample(codec.sample_rate)
    samples = codec.decode(codec.encode(audio.samples[None, None]))[0, 0]
    return Audio(samples[: audio.samples.shape[-1]], codec.sample_rate)


def _save_spoken(
    evaluation: AssistantEvaluation,
    group: str,
    clips: Sequence[Clip],
    sounds: Sequence[Audio],
    columns: dict[str, list],
) -> None:
    """Keeps what was made of each clip, and its sound, where that was asked for."""
    columns = {"id": [clip.id for clip in clips], "text": [clip.text for clip in clips], **columns}
    evaluation.save_items(group, rows_of(columns))
    for clip, sound in zip(clips, sounds, strict=True):
        evaluation.save_sound(f"{group}-{clip.id}", sound)


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
    if right and bool((top[:steps, 0] - top[:steps, 1] > CLOSE_LOGITS).all()):
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


# Speed and memory come first; the order of the others makes it rare that two at once need the same reference.
GROUPS: dict[str, Group] = {
    "ready": Group(speed.ready, 5, ("ready-s",), alone=True),
    "memory": Group(speed.memory, 1, ("peak-memory-gb",), alone=True),
    "speed": Group(speed.speed, 20, ("realtime-speed",), alone=True),
    "latency": Group(speed.first_audio, 30, ("first-audio-s",), alone=True),
    "busy": Group(speed.first_audio_busy, 30, ("first-audio-busy-s",), alone=True),
    "replies": Group(answers.replies, 200, ("reply-words", "reply-loops", "reply-agreement-f1")),
    "spoken-form": Group(spoken_form.spoken_form_right, 200, ("spoken-form-right",)),
    "say": Group(say, 100, ("say-wer", "say-dnsmos-delta", "say-dnsmos")),
    "say-hard": Group(say_hard, 40, ("say-wer-hard",)),
    "voices": Group(say_voices, 100, ("say-wer-added-voices", "say-dnsmos-delta-voices")),
    "manner": Group(
        manner.manner,
        100,
        ("manner-follows", "manner-speed", "manner-pitch", "manner-plain", "manner-wer-added", "manner-nats"),
    ),
    "easy": Group(answers.easy, 200, ("easy-answers-right",)),
    "knowledge": Group(
        answers.knowledge, 200, ("knowledge-right", *(f"knowledge-right-level-{level}" for level in range(1, 6)))
    ),
    "follow-ups": Group(answers.follow_ups, 60, ("followups-right",)),
    "tools": Group(tools.tool_calls, 80, ("tool-calls-right", "tool-calls-right-typed")),
    "gsm8k": Group(benchmarks.gsm8k, 50, ("gsm8k-spoken", "gsm8k-spoken-lost")),
    "openbookqa": Group(benchmarks.openbookqa, 100, ("openbookqa-spoken", "openbookqa-spoken-lost")),
    "turns": Group(turns.turn_ends, 200, ("false-cutoffs", "endpoint-wait-s")),
    "packed": Group(packed.faithful, 8, ("greedy-tokens-equal", "kl-per-token")),
    "ability": Group(packed.ability, 200, ("text-ability-lost", "arc-easy-typed", "piqa-typed", "gsm8k-typed")),
    "hear": Group(unseen_voices, 300, ("hear-wer-unseen-voices", "hear-wer-unseen-voices-adapter-alone")),
    "real": Group(real_speech, 1000, ("hear-wer-real-speech", "hear-wer-real-speech-adapter-alone")),
    "text": Group(text_identical, 200, ("text-identical",)),
    "codec": Group(codec, 100, ("codec-wer-added", "codec-stoi", "codec-log-mel-distance")),
}
