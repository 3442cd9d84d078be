"""Test cases for full duplex: the user's side of dialogues, by voices and in words that no training ever had.

    scenarios = load_scenarios(Path("scenarios"), "pause", 100, texts)     # spoken once, then read

Requests of the dev split, four tasks (see `antiphon.evals.duplex.metrics`):

- pause: one request with one or two silences of 0.4 to 1.6 s inside, some with an "um"; it is cut between words.
- turn: one request, and silence.
- interruption: a request that can have a long answer; another one cuts into that answer, 0.6 to 1.2 s after it began.
- backchannel: a long turn: two ways to begin one that are kept out of training, a pause after each, then the request.
  Where our training conversations have the listener's "mhm" (0.24 to 0.74 s into those pauses) it would be fitting.

Scenario i of a task follows from the seed alone, so a set can grow, and comes out the same wherever it is made. The
sound is clean, as machines' voices are; its loudness varies.

Into an answer comes something that takes no turn, likewise 0.6 to 1.2 s after it began:

- mhm: a sign of listening by the same voice.
- noise: a recorded sound that no training had, or somebody who speaks far away.
- sound: the same, but while nobody speaks.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from antiphon.data.dialogue.compose import Exchange, Pause, Script, compose
from antiphon.data.dialogue.format import MODEL, USER, Dialogue, DialogueWriter, Event, read_index
from antiphon.data.dialogue.phrases import RATE, Request, SpokenUtterance, TtsCache, Voice
from antiphon.data.dialogue.sample import ANSWERS, Material, Mix, draw_pauses, lower_first
from antiphon.data.dialogue.turns import TurnMaterial, TurnSources
from antiphon.data.speech.augment import muffle, reverberate, room_response
from antiphon.data.speech.speak import generator_for
from antiphon.errors import DataError
from antiphon.evals.assistant.material import HELD_OUT
from antiphon.evals.duplex.metrics import ASIDES
from antiphon.evals.duplex.simulate import Scenario

TASKS = ("pause", "turn", "interruption", "backchannel")
NOISY = ("noise", "sound")  # tasks that need recorded sounds
ALL_TASKS = (*TASKS, "mhm", *NOISY)
FAR = 0.3  # of the sounds, somebody who speaks far away
# Mostly the voice that speaks fastest; the others are a tenth each.
VOICES = tuple((voice, share) for (voice, _), share in zip(HELD_OUT, (8, 1, 1), strict=True))
INTERRUPTION_SECONDS = (0.6, 1.2)  # into the model's answer at which the user interrupts
PATIENCE_SECONDS = 4.0  # that the user waits for an answer before asking the next thing
MIN_LONG_REPLY_WORDS = 16  # such an answer can be interrupted
BACKCHANNEL_SECONDS = (0.24, 0.5)  # into a pause, and length, of a place for a sign of listening
PEAK_DB = (-16.0, -5.0)
SILENCE_AFTER_SECONDS = (5.0, 10.0)  # min. and max., at the end

Say = Callable[[Voice, str, int], SpokenUtterance]


def load_scenarios(
    folder: Path, task: str, n: int = 100, texts: Path | None = None, seed: int = 0, sounds: Path | None = None
) -> list[Scenario]:
    """The first `n` scenarios of a task; those that are missing are made.

    Args:
        folder: the set.
        task: one of `ALL_TASKS`.
        n: how many.
        texts: folder with requests.jsonl.gz, to make what is missing from; or None.
        seed: of the set.
        sounds: recordings of sounds, to make what is missing of the tasks `NOISY`.

    Raises:
        DataError: scenarios are missing, and there are no texts to make them from.
    """
    wanted = [scenario_id(task, seed, i) for i in range(n)]
    found = {entry.id: entry for entry in read_index(folder)} if (folder / "index.jsonl").is_file() else {}
    if missing := [identity for identity in wanted if identity not in found]:
        if texts is None:
            raise DataError(
                f"{folder} lacks {len(missing)} of {n} test conversations, such as {missing[0]}, and there are no "
                "texts to make them from. Give the folder of the text sources: --texts FOLDER."
            )
        if task in NOISY and sounds is None:
            raise DataError(f"{task}: the test conversations need recorded sounds: --sounds FOLDER")
        _make(folder, task, missing, texts, sounds)
        found = {entry.id: entry for entry in read_index(folder)}
    return [_scenario(identity, found[identity].load(RATE)) for identity in wanted]


def scenario_id(task: str, seed: int, number: int) -> str:
    """Names a scenario among all that can be made."""
    return f"{task}-{seed}-{number:03d}"


def _scenario(identity: str, talk: Dialogue) -> Scenario:
    """A scenario from the conversation that it is kept as: the user's channel, and in `info` what else it takes."""
    info, user, second = talk.info, talk.user, None
    if "second" in info:
        start, end = (round(t * talk.sample_rate) for t in info["second"])
        user, second = user[:start], user[start:end]
    elif "alone" in info:
        user = user[: round(info["alone"][1] * talk.sample_rate)]
    else:
        end = max(event.end for event in talk.events if event.kind == "turn")
        user = user[: round(end * talk.sample_rate)]
    return Scenario(
        identity, info["task"], user, tuple(talk.events), talk.sample_rate, second, info.get("delay", 1.0),
        PATIENCE_SECONDS, SILENCE_AFTER_SECONDS, tuple(info["texts"]), tuple(info["intents"]), info["voice"],
    )  # fmt: skip


def _make(folder: Path, task: str, identities: list[str], texts: Path, sounds: Path | None) -> None:
    from tqdm import tqdm

    material, tts = Material.read(texts, "dev"), TtsCache()
    recorded = TurnMaterial(material, TurnSources(sounds=(str(sounds),) if sounds else ()), "dev")
    with DialogueWriter(folder, ".flac") as writer:
        for identity in tqdm(identities, desc=f"  speaking {task}", unit="scenario", file=sys.stderr, leave=False):
            if identity not in writer.done:
                writer.add(identity, make_scenario(material, tts.utterance, identity, recorded))


def make_scenario(material: Material, say: Say, identity: str, recorded: TurnMaterial | None = None) -> Dialogue:
    """One scenario, spoken, as it is kept.

    Args:
        material: requests of the dev split, replies, preambles.
        say: gives the sound of a text by a voice.
        identity: of `scenario_id`; all that is drawn follows from it.
        recorded: sounds, for the tasks `NOISY`.
    """
    generator = generator_for(0, f"scene {identity}")
    task = identity.split("-")[0]
    voices, shares = zip(*VOICES)
    voice = Voice(voices[int(generator.choice(len(voices), p=np.array(shares) / sum(shares)))])
    requests = _asked(material, task, generator)
    exchanges = [
        Exchange(text, "", request.intent, take=int(generator.integers(2**31)), pauses=pauses, gap=0.0)
        for request, text, pauses in (_turn(material, task, request, generator) for request in requests)
    ]
    lead = float(generator.uniform(0.5, 1.5))

    def only_the_user(speaker: Voice, text: str, take: int) -> SpokenUtterance:
        if speaker is voice:
            line = say(speaker, text, take)
            # Times of words are estimates for these voices: a last word may be put past the end of the sound.
            return SpokenUtterance(text, line.samples, tuple((word, a, max(a, b)) for word, a, b in line.words))
        return SpokenUtterance(text, np.zeros(round(BACKCHANNEL_SECONDS[1] * RATE) if text else 0, np.float32), ())

    # The model's voice is another object even where it has the same name: what it says is left out.
    talks = [compose(Script((e,), voice, Voice(), (1.0,), lead=lead, tail=0.08), only_the_user) for e in exchanges]
    user, events = talks[0].user, _events(talks[0], task)
    info = {
        "task": task,
        "texts": [exchange.text for exchange in exchanges],
        "intents": [request.intent for request in requests],
        "voice": voice.name,
    }
    if task in (*ASIDES, "sound"):
        aside = _aside(task, say, voice, material, recorded, generator)
        first = round(next(event.end for event in events if event.kind == "turn") * RATE)
        if task == "sound":  # nobody asks anything
            user, first = np.zeros(round(lead * RATE), np.float32), round(lead * RATE)
            events = [Event("noise", lead, lead + len(aside) / RATE, USER)]
        user = np.concatenate((user[:first], aside))
        info["second" if task in ASIDES else "alone"] = [first / RATE, len(user) / RATE]
        info["delay"] = round(float(generator.uniform(*INTERRUPTION_SECONDS)), 3)
    elif len(talks) > 1:
        end = next(event.end for event in events if event.kind == "turn")
        turn = next(event for event in talks[1].events if event.kind == "turn" and event.speaker == USER)
        second = talks[1].user[round(turn.start * RATE) : round(turn.end * RATE)]
        user = np.concatenate((user[: round(end * RATE)], second))
        info["second"] = [round(end * RATE) / RATE, len(user) / RATE]
        info["delay"] = round(float(generator.uniform(*INTERRUPTION_SECONDS)), 3)
    peak = float(np.abs(user).max(initial=1e-6))
    user = user * np.float32(10 ** (float(generator.uniform(*PEAK_DB)) / 20) / peak)
    words = [] if task == "sound" else [word for word in talks[0].words if word.speaker == USER]
    return Dialogue(np.zeros_like(user), user, RATE, words, events, info)


def _aside(
    task: str, say: Say, voice: Voice, material: Material, recorded: TurnMaterial | None, generator: Generator
) -> NDArray[np.float32]:
    """What takes no turn, [n] at the conversations' rate."""
    if task == "mhm":
        signs = material.replies.extras["user backchannel"]
        return say(voice, signs[int(generator.integers(len(signs)))], int(generator.integers(2**31))).samples
    if float(generator.random()) < FAR or recorded is None:
        requests = sorted(material.requests)
        text = material.requests[requests[int(generator.integers(len(requests)))]][0].text
        name = VOICES[int(generator.integers(len(VOICES)))][0]
        samples = say(Voice(name), text, int(generator.integers(2**31))).samples
        room = room_response(RATE, float(generator.uniform(0.3, 0.7)), generator)
        samples = muffle(reverberate(samples, room), RATE, float(generator.uniform(1500, 4000)))
        return samples * np.float32(10 ** (float(generator.uniform(-24, -14)) / 20))
    sounds = recorded.sounds
    samples = recorded.sound(sounds[int(generator.integers(len(sounds)))])
    return samples[: round(float(generator.uniform(0.3, 3.0)) * RATE)] * np.float32(
        10 ** (generator.uniform(-15, 0) / 20)
    )


def _asked(material: Material, task: str, generator: Generator) -> list[Request]:
    """What the user asks for, one request or (to interrupt) two; never what no reply fits."""
    requests, replies = material.requests, material.replies.by_intent
    fitting = [intent for intent in requests if intent in replies and intent != "oos"]
    first = fitting
    if task in ("interruption", *ASIDES):
        first = [i for i in fitting if max(len(text.split()) for text in replies[i]) >= MIN_LONG_REPLY_WORDS] or fitting
    if task == "pause":
        first = [intent for intent in fitting if any(len(r.text.split()) >= 6 for r in requests[intent])]
    chosen = first[int(generator.integers(len(first)))]
    choices = [r for r in requests[chosen] if task != "pause" or len(r.text.split()) >= 6]
    asked = [choices[int(generator.integers(len(choices)))]]
    if task == "interruption":
        others = [intent for intent in fitting if intent != chosen and intent not in ANSWERS]
        second = requests[others[int(generator.integers(len(others)))]]
        second = [r for r in second if len(r.text.split()) >= 4] or list(second)
        asked.append(second[int(generator.integers(len(second)))])
    return asked


def _turn(
    material: Material, task: str, request: Request, generator: Generator
) -> tuple[Request, str, tuple[Pause, ...]]:
    """(request, what is said, silences in it)."""
    if task == "pause":
        mix = Mix()
        return request, request.text, draw_pauses(request.text, mix, material.replies.extras["hesitation"], generator)
    if task == "backchannel":
        first, second = generator.choice(len(material.preambles), 2, replace=False)
        preambles = (material.preambles[first], lower_first(material.preambles[second]))
        ends = np.cumsum([len(preamble.split()) for preamble in preambles])
        pauses = tuple(
            Pause(
                int(end),
                float(generator.uniform(1.1, 1.8)),
                backchannel="Mhm.",
                backchannel_after=BACKCHANNEL_SECONDS[0],
            )
            for end in ends
        )
        return request, " ".join((*preambles, lower_first(request.text))), pauses
    return request, request.text, ()


def _events(talk: Dialogue, task: str) -> list[Event]:
    """Those of the user, and the places for a sign of listening."""
    kept = []
    for event in talk.events:
        if event.speaker == MODEL and event.kind == "backchannel":
            kept.append(Event("backchannel", event.start, event.end, MODEL, "place"))
        elif event.speaker == USER and event.kind == "turn":
            kept.append(Event("turn", event.start, event.end, USER, "story" if task == "backchannel" else event.note))
        elif event.speaker == USER and event.kind in ("pause", "hesitation"):
            kept.append(event)
    return kept
