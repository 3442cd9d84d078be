"""ABX: against a slow obvious version, hand-counted cases and, where it is installed, the package `fastabx`."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch

from antiphon.data.shards import ShardWriter, SpeechSet, Utterance
from antiphon.errors import EvalError
from antiphon.evals.metrics.abx import Item, abx, angular, distances, euclidean, identical, make_items, measure_abx


def slow_warp(cost) -> float:
    """The cheapest path, back from the end: the diagonal first, then within the row."""
    n, m = cost.shape
    total = np.full((n, m), np.inf, np.float32)
    for i, j in itertools.product(range(n), range(m)):
        before = [total[a, b] for a, b in ((i - 1, j), (i - 1, j - 1), (i, j - 1)) if a >= 0 and b >= 0]
        total[i, j] = cost[i, j] + (min(before) if before else 0)
    i, j, length = n - 1, m - 1, 1
    while i or j:
        if not i or not j:
            i, j = max(i - 1, 0), max(j - 1, 0)
        elif total[i - 1, j - 1] <= min(total[i, j - 1], total[i - 1, j]):
            i, j = i - 1, j - 1
        elif total[i, j - 1] <= total[i - 1, j]:
            j -= 1
        else:
            i -= 1
        length += 1
    return float(total[-1, -1] / np.float32(length))


def slow_frames(a, b, kind: str) -> np.ndarray:
    cost = np.zeros((len(a), len(b)), np.float32)
    for i, j in itertools.product(range(len(a)), range(len(b))):
        x, y = a[i].double(), b[j].double()
        if kind == "identical":
            cost[i, j] = float((x != y).any())
        elif kind == "euclidean":
            cost[i, j] = math.sqrt(float((x - y).square().sum()))
        else:
            cost[i, j] = math.acos(max(-1, min(1, float(x @ y / x.norm() / y.norm())))) / math.pi
    return cost


def slow_abx(items: list[Item], speaker: str, context: str, kind: str) -> float:
    """Triplet by triplet."""
    table = {
        (id(x), id(y)): slow_warp(slow_frames(x.values, y.values, kind)) for x, y in itertools.product(items, items)
    }
    cells: dict[tuple, list[float]] = defaultdict(list)
    for a, b, x in itertools.product(items, items, items):
        if a is x or a.phone != x.phone or a.phone == b.phone or a.speaker != b.speaker:
            continue
        if (x.speaker == a.speaker) != (speaker == "within"):
            continue
        around = [(item.before, item.after) if context == "within" else () for item in (a, b, x)]
        if len(set(around)) > 1:
            continue
        to_a, to_b = table[id(x), id(a)], table[id(x), id(b)]
        wrong = 1.0 if to_a > to_b else 0.5 if to_a == to_b else 0.0
        cells[a.phone, b.phone, a.speaker, x.speaker, around[0]].append(wrong)
    speakers: dict[tuple, list[float]] = defaultdict(list)
    for (a, b, ab, _, _), wrong in cells.items():
        speakers[a, b, ab].append(float(np.mean(wrong)))
    pairs: dict[tuple, list[float]] = defaultdict(list)
    for (a, b, _), scores in speakers.items():
        pairs[a, b].append(float(np.mean(scores)))
    return float(np.mean([np.mean(scores) for scores in pairs.values()]))


def some_items(seed: int, codes: bool = False, count: int = 40) -> list[Item]:
    draw = np.random.default_rng(seed)
    items = []
    for _ in range(count):
        phone, speaker = int(draw.integers(3)), str(draw.integers(3))
        frames = int(draw.integers(1, 5))
        if codes:
            values = torch.from_numpy(draw.integers(0, 3, (frames, 1)) + phone)
        else:
            values = torch.from_numpy(draw.normal(0, 1, (frames, 5)) + np.eye(5)[phone] * 1.5).float()
        items.append(Item("abc"[phone], "xy"[draw.integers(2)], "z", speaker, values))
    return items


@pytest.mark.parametrize("kind", ["angular", "euclidean", "identical"])
@pytest.mark.parametrize("context", ["within", "any"])
@pytest.mark.parametrize("speaker", ["within", "across"])
def test_it_is_the_slow_obvious_version(speaker: str, context: str, kind: str) -> None:
    for seed in range(2):
        items = some_items(seed, kind == "identical")
        ours = abx(items, speaker, context, kind, most=None, most_across=None)
        assert ours == pytest.approx(slow_abx(items, speaker, context, kind), abs=1e-6)
        assert 0.02 < ours < 0.5


def test_a_hand_counted_case() -> None:
    def item(phone: str, value: float) -> Item:
        return Item(phone, "", "", "s", torch.tensor([[value]]))

    items = [item("a", 0.0), item("a", 1.0), item("b", 1.5), item("b", 5.0)]
    # A and X are a: X = 0 has A at 1, B at 1.5 and 5: right, right. X = 1 has A at 1, B at 0.5 and 4: wrong, right.
    # A and X are b: X = 1.5 has A at 3.5, B at 1.5 and 0.5: wrong, wrong. X = 5 has A at 3.5, B at 5 and 4: right.
    assert abx(items, distance="euclidean") == pytest.approx((1 / 4 + 2 / 4) / 2)


def test_distances_of_sequences() -> None:
    generator = torch.Generator().manual_seed(0)
    xs = [torch.randn(n, 3, generator=generator) for n in (1, 4, 7)]
    ys = [torch.randn(n, 3, generator=generator) for n in (3, 1, 6, 2)]
    for kind, distance in (("angular", angular), ("euclidean", euclidean)):
        slow = [[slow_warp(slow_frames(x, y, kind)) for y in ys] for x in xs]
        assert np.allclose(distances(xs, ys, distance), slow, atol=1e-6)
    assert distances(xs, xs, euclidean).diagonal().tolist() == [0, 0, 0]
    zeros = torch.cat([torch.zeros(1, 3), xs[1][:1]])
    assert angular(zeros, zeros)[0].tolist() == [0.0, 1.0]
    assert identical(torch.tensor([[1, 2], [1, 3]]), torch.tensor([[1, 2]])).tolist() == [[0.0], [1.0]]


def test_perfect_useless_and_drawn() -> None:
    draw = np.random.default_rng(0)
    phones = "abcd"
    perfect = [Item(phones[n % 4], "", "", "s", torch.tensor([[n % 4]] * (1 + n % 3))) for n in range(80)]
    assert abx(perfect, distance="identical") == 0.0
    same = [Item(phones[n % 4], "", "", "s", torch.zeros(2, 1)) for n in range(80)]
    assert abx(same, distance="identical") == 0.5
    noise = [Item(phones[n % 4], "", "", str(n % 3), torch.from_numpy(draw.normal(size=(3, 8)))) for n in range(240)]
    assert abx(noise, "across", most=6, most_across=1) == pytest.approx(0.5, abs=0.06)
    assert abx(noise, most=6, seed=1) == abx(noise, most=6, seed=1) != abx(noise, most=6, seed=2)


def test_errors_say_what_is_wrong() -> None:
    with pytest.raises(EvalError, match="choose within or across"):
        abx(some_items(0), speaker="between")
    with pytest.raises(EvalError, match="nothing can be compared across"):
        abx([item for item in some_items(0) if item.speaker == "0"], "across")


@pytest.fixture
def speech(tmp_path: Path) -> SpeechSet:
    """Words of a few letters, each letter a constant of its own for 50 ms."""
    with ShardWriter(tmp_path / "set", 8000) as writer:
        for n, word in enumerate(["kats", "tats", "kast", "tast", "kats", "tats", "kast", "tast"]):
            samples = np.concatenate([np.full(400, 0.1 * (1 + "kats".index(c))) for c in word])
            ends = [0.05 * (i + 1) for i in range(4)]
            changes = {"pitch": 1.0 + n % 2, "speed": 1.0 + n}
            writer.add(Utterance(str(n), word, "v", phonemes=word, phoneme_ends=ends, changes=changes), samples)
    return SpeechSet(tmp_path / "set")


class Loudness:
    """A tokenizer whose code is the mean of a frame's samples, in hundredths."""

    sample_rate, channels, frame_rate, codebooks, codebook_size = 8000, 1, 100.0, 1, 100

    def encode(self, audio: torch.Tensor, codebooks: int | None = None) -> torch.Tensor:
        return (100 * audio[:, :1].unflatten(2, (-1, 80)).mean(3)).round().long()


def test_items_are_cut_out_of_speech(speech: SpeechSet) -> None:
    def values(samples):
        return samples.unflatten(0, (-1, 80)).mean(1, keepdim=True)

    items = make_items(values, 8000, 100.0, speech, range(8))
    assert len(items) == 16 and {item.speaker for item in items} == {"v pitch 1.000", "v pitch 2.000"}
    first = items[0]
    assert (first.before, first.phone, first.after) == ("k", "a", "t") and len(first.values) == 15
    alone = make_items(values, 8000, 100.0, speech, [0], span="phone")[0]
    assert torch.allclose(alone.values[:, 0], torch.full((5,), 0.2), atol=1e-3)
    assert measure_abx(Loudness(), speech, range(8), span="phone", context="any") == 0.0
    with pytest.raises(EvalError, match="triphone or phone"):
        make_items(values, 8000, 100.0, speech, [0], span="word")


def test_figures_are_those_of_fastabx(tmp_path: Path) -> None:
    fastabx = pytest.importorskip("fastabx")  # needs Python 3.12
    for kind in ("angular", "euclidean", "identical"):
        items = some_items(7, kind == "identical", count=150)
        lines, at, values = ["#file onset offset #phone prev-phone next-phone speaker"], 0, []
        for item in items:
            end = at + len(item.values)
            lines.append(
                f"all {at / 50 + 0.005:.4f} {end / 50 - 0.005:.4f} {item.phone} {item.before} z {item.speaker}"
            )
            values.append(item.values)
            at = end
        (tmp_path / "x.item").write_text("\n".join(lines) + "\n")
        torch.save(torch.cat(values), tmp_path / "all.pt")
        for speaker, context in itertools.product(("within", "across"), ("within", "any")):
            theirs = fastabx.zerospeech_abx(
                tmp_path / "x.item", tmp_path, max_size_group=None, max_x_across=None, speaker=speaker,
                context=context, distance=kind, device="cpu", progress=False,
            )  # fmt: skip
            found = abx(items, speaker, context, kind, most=None, most_across=None)
            assert found == pytest.approx(theirs, abs=1e-5), (kind, speaker, context)


def test_fastabx_published_example() -> None:
    """The example of its README (fastabx 0.9.0): 3.06 % by one distance of single frames."""
    draw = np.random.default_rng(0)
    features = np.concatenate([draw.normal(0, 1, (50, 8)), draw.normal(2, 1, (50, 8))])
    items = [
        Item("a" if n < 50 else "b", "", "", f"s{1 + n % 2}", torch.from_numpy(row[None]).float())
        for n, row in enumerate(features)
    ]
    assert abx(items, "within", "any", "euclidean", most=None) == pytest.approx(0.03059999644756317, abs=1e-6)
