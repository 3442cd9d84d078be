"""Conversations in one batch: each goes as it would alone, whoever joins, leaves, rests, forks or is rewound."""

import gc
import os
import sys
from pathlib import Path

import pytest
import torch

from antiphon.audio.io import Audio
from antiphon.dialogue.duplex.engine import DuplexEngine
from antiphon.errors import ModelError
from antiphon.models.moshi.bundle import Duplex
from antiphon.models.moshi.model import GREEDY
from antiphon.nn.state import fork, tensors
from tests.dialogue.duplex.tiny_duplex import CONFIG, LIVELY, SAMPLES, noise, tiny_duplex

FRAMES = 20  # more than the model's context


@pytest.fixture(scope="module")
def duplex() -> Duplex:
    return tiny_duplex()


def talk(engine: DuplexEngine, handle: int, frames: torch.Tensor | list) -> list:
    return [engine.step({handle: frame})[handle] for frame in frames]


def same(one: list, other: list) -> bool:
    """Whether two runs of frames sound and read alike. Batches round otherwise in the last bits, codes are equal."""
    return len(one) == len(other) and all(
        a.token == b.token and torch.equal(a.codes, b.codes) and torch.allclose(a.audio, b.audio, atol=1e-4)
        for a, b in zip(one, other)
    )


def alone(duplex: Duplex, frames: torch.Tensor | list, seed: int = 0) -> list:
    engine = DuplexEngine(duplex, LIVELY)
    return talk(engine, engine.join(seed=seed), frames)


def test_a_frame_in_gives_a_frame_out_and_the_first_ones_are_late_by_the_delay(duplex):
    made = alone(duplex, noise(5))
    assert all(frame.audio.shape == (SAMPLES,) and frame.audio.dtype == torch.float32 for frame in made)
    assert [frame.number for frame in made] == [-1, 0, 1, 2, 3]
    assert made[0].token == -1 and (made[0].codes == -1).all()
    assert all(frame.token >= 0 and (frame.codes >= 0).all() for frame in made[1:])


def test_the_sound_is_that_of_the_codes(duplex):
    made = alone(duplex, noise(FRAMES))
    codec = duplex.codec
    codes = torch.stack([duplex.silence, *[frame.codes for frame in made[1:]]], dim=1)
    state = codec.init_state(1)
    sound = codec.decode_step(codes[None], state)[0, 0]
    assert torch.allclose(sound, torch.cat([frame.audio for frame in made]), atol=1e-4)


def test_the_model_hears_and_the_seed_decides(duplex):
    quiet, loud = alone(duplex, noise(FRAMES) * 0), alone(duplex, noise(FRAMES))
    assert not same(quiet, loud)
    assert same(loud, alone(duplex, noise(FRAMES))) and not same(loud, alone(duplex, noise(FRAMES), seed=1))


def test_conversations_that_join_leave_and_rest_go_as_they_would_alone(duplex):
    sounds = [noise(FRAMES, seed) for seed in range(6)]
    expected = [alone(duplex, sounds[k], seed=k) for k in range(6)]
    generator = torch.Generator().manual_seed(3)
    engine, made, live, done = DuplexEngine(duplex, LIVELY, capacity=2), [[] for _ in sounds], {}, set()
    for tick in range(250):
        if tick % 3 == 0 and len(live) + len(done) < 6:
            k = len(live) + len(done)
            live[engine.join(seed=k)] = k
        # At each tick about a third of them rests, others every time, in an order that changes.
        chosen = [handle for handle in live if torch.rand(1, generator=generator) > 0.3]
        chosen = [chosen[i] for i in torch.randperm(len(chosen), generator=generator)]
        frames = engine.step({handle: sounds[live[handle]][len(made[live[handle]])] for handle in chosen})
        assert list(frames) == chosen
        for handle, frame in frames.items():
            made[live[handle]].append(frame)
        for handle in [handle for handle, k in live.items() if len(made[k]) == FRAMES]:
            engine.leave(handle)
            done.add(live.pop(handle))
    assert len(done) == 6 and engine.conversations == []
    assert all(same(one, other) for one, other in zip(made, expected))


def test_words_heard_by_the_speech_encoder_are_each_conversations_own():
    duplex, sounds = tiny_duplex(hearing=True), [noise(FRAMES, seed) for seed in range(3)]
    expected = [alone(duplex, sound, seed=k) for k, sound in enumerate(sounds)]
    engine, made, handles = DuplexEngine(duplex, LIVELY), [[], [], []], []
    for tick in range(FRAMES + 4):  # each joins two frames after the one before
        if tick % 2 == 0 and len(handles) < 3:
            handles.append(engine.join(seed=len(handles)))
        live = [k for k in range(len(handles)) if len(made[k]) < FRAMES]
        for k, frame in zip(live, engine.step({handles[k]: sounds[k][len(made[k])] for k in live}).values()):
            made[k].append(frame)
    assert all(same(one, other) for one, other in zip(made, expected))
    duplex.moshi.hearing.embedding.weight.data.zero_()  # deaf to the encoder, it says something else
    duplex.moshi.pack()
    assert not all(same(alone(duplex, sound, seed=k), one) for k, (sound, one) in enumerate(zip(sounds, expected)))


def test_a_lost_frame_is_survived_and_known(duplex):
    frames = list(noise(FRAMES))
    lost = [*frames[:8], None, *frames[9:]]
    made = alone(duplex, lost)
    assert same(made[:8], alone(duplex, frames)[:8]) and all(torch.isfinite(frame.audio).all() for frame in made)
    silent = [*frames[:8], torch.zeros(SAMPLES), *frames[9:]]
    assert not same(made, alone(duplex, silent))  # not knowing is not the same as silence


def test_a_snapshot_is_a_value(duplex):
    sounds = noise(FRAMES)
    engine = DuplexEngine(duplex, LIVELY)
    handle, other = engine.join(seed=4), engine.join(seed=5)
    for frame in sounds[:10]:
        engine.step({handle: frame, other: frame})
    snapshot = engine.snapshot(handle)
    kept = fork(snapshot.state)
    onward = talk(engine, handle, sounds[10:])
    assert all(torch.equal(a, b) for a, b in zip(tensors(kept), tensors(snapshot.state)))

    engine.restore(handle, snapshot)  # back in time
    assert same(talk(engine, handle, sounds[10:]), onward)
    twin = engine.join(snapshot)  # a second one from there
    assert same(talk(engine, twin, sounds[10:]), onward)
    elsewhere = DuplexEngine(duplex, LIVELY)  # and in another engine
    assert same(talk(elsewhere, elsewhere.join(snapshot), sounds[10:]), onward)


def test_a_fork_goes_its_own_way(duplex):
    sounds = noise(FRAMES)
    engine = DuplexEngine(duplex, LIVELY)
    one = engine.join()
    talk(engine, one, sounds[:10])
    same_chance, other_chance = engine.fork(one), engine.fork(one, seed=77)
    together = [engine.step(dict.fromkeys((one, same_chance, other_chance), frame)) for frame in sounds[10:]]
    runs = [[frames[handle] for frames in together] for handle in (one, same_chance, other_chance)]
    assert same(runs[0], runs[1]) and not same(runs[0], runs[2])


def test_a_muted_model_is_silent_and_thinks_nothing(duplex):
    engine = DuplexEngine(duplex, LIVELY)
    handle = engine.join()
    talk(engine, handle, noise(5))
    engine.mute(handle, own=True)
    made = talk(engine, handle, noise(6))[2:]  # what was begun is finished first
    assert all(torch.equal(frame.codes, duplex.silence) and frame.token == CONFIG.pad for frame in made)
    engine.mute(handle, own=False)
    assert any(frame.token != CONFIG.pad for frame in talk(engine, handle, noise(10)))


def test_a_deaf_model_does_not_hear(duplex):
    def deaf(sounds: torch.Tensor) -> list:
        engine = DuplexEngine(duplex, LIVELY)
        handle = engine.join()
        engine.mute(handle, user=True)
        return talk(engine, handle, sounds)

    assert same(deaf(noise(FRAMES)), deaf(noise(FRAMES, seed=1)))


def test_it_says_what_it_is_given(duplex):
    engine = DuplexEngine(duplex, LIVELY)
    handle = engine.join()
    engine.mute(handle, user=True)
    engine.say(handle, "good day to you")
    text = "".join(frame.text for frame in talk(engine, handle, noise(25)))
    assert text.startswith(" good day to you")


def test_a_prompt_is_a_past(duplex):
    engine = DuplexEngine(duplex, LIVELY)
    voice = Audio(noise(6, seed=9).flatten(), duplex.sample_rate)
    sounds = noise(FRAMES)
    plain, text, spoken = (
        talk(engine, engine.join(engine.prompt(**prompt)), sounds)
        for prompt in ({}, {"text": "be brief"}, {"voice": voice})
    )
    assert same(plain, alone(duplex, sounds))
    assert not same(text[3:], plain[3:]) and not same(spoken[3:], plain[3:])
    again = engine.prompt(voice=voice, seed=0)
    assert same(spoken, talk(engine, engine.join(again), sounds))
    # Nothing of the prompt itself is heard: the first frame is silence that was forced, and it begins at once.
    assert torch.equal(spoken[0].codes, duplex.silence) and spoken[0].token == CONFIG.pad


def test_wrong_handles_and_frames_are_refused(duplex):
    engine = DuplexEngine(duplex, GREEDY)
    handle = engine.join()
    with pytest.raises(ModelError, match=r"\[192\] samples"):
        engine.step({handle: torch.zeros(10)})
    engine.leave(handle)
    for call in (lambda: engine.step({handle: None}), lambda: engine.leave(handle), lambda: engine.snapshot(handle)):
        with pytest.raises(ModelError, match="no conversation"):
            call()
    assert engine.step({}) == {}


def test_a_codec_that_does_not_fit_is_refused(duplex):
    from antiphon.codecs.mini.model import MiniCodec, MiniCodecConfig

    with pytest.raises(ModelError, match="another codec"):
        Duplex(duplex.moshi, MiniCodec(MiniCodecConfig(decoder_depths=(0, 0, 0))), duplex.pieces)


def test_nothing_grows_with_time(duplex):
    engine = DuplexEngine(duplex, LIVELY)
    handle = engine.join()
    talk(engine, handle, noise(2))
    shapes = [tensor.shape for tensor in tensors(engine.snapshot(handle).state)]
    for _ in range(10):
        talk(engine, handle, noise(20))
    assert [tensor.shape for tensor in tensors(engine.snapshot(handle).state)] == shapes


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_a_conversation_may_last(duplex):
    """Four minutes of it, with a neighbour that comes and goes: as much memory at the end, and it still listens."""
    torch.set_num_threads(1)  # it's tiny
    engine, sounds = DuplexEngine(duplex, LIVELY, capacity=2), noise(50)
    handle, neighbour, memory = engine.join(), None, []
    for number in range(3000):
        if number % 50 == 0:
            if neighbour is not None:
                engine.leave(neighbour)
            neighbour = engine.join(seed=number)
        frame = sounds[number % 50]
        made = engine.step({handle: frame, neighbour: None if number % 7 == 0 else frame})
        assert torch.isfinite(made[handle].audio).all()
        if number % 500 == 499:
            gc.collect()
            memory.append(resident())
    assert max(memory[2:]) < 1.02 * memory[1]
    snapshot = engine.snapshot(handle)
    heard = talk(engine, handle, sounds)
    engine.restore(handle, snapshot)
    assert not same(heard, talk(engine, handle, sounds * 0))


def resident() -> int:
    """Bytes that this process has in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
