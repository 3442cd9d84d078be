"""Stages of a speech language model: examples by their number alone, packed; what is kept apart stays apart."""

from __future__ import annotations

import gzip
import json

import pytest
import soundfile
import torch
from safetensors.torch import load_file

from antiphon.data.formats.formats import undo
from antiphon.data.formats.sources import SourceConfig, is_held_out, open_source, read_lines
from antiphon.errors import AntiphonError, ConfigError, DataError
from antiphon.models.speech_lm.model import SpeechLM
from antiphon.train.asr.align import plain as plain_text
from antiphon.train.config import StageConfig
from antiphon.train.engine import Trainer, build_task, train
from antiphon.train.letters import LETTERS
from tests.models.speech_lm.tiny import speech_lm, text_model
from tests.models.speech_lm.units import write_units
from tests.train.test_codecs_by_name import CODECS, noise


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    root = tmp_path_factory.mktemp("speech-lm")
    (root / "text.txt").write_text("".join(f"the dog sat on log {i}\n" for i in range(30)))
    text_model(root / "llm")
    return {"units": write_units(root / "units"), "text": root / "text.txt", "llm": root / "llm"}


def recipe(places, out, **changes) -> StageConfig:
    units = str(places["units"])
    sources = {
        "speech": {"format": "speech", "place": units},
        "both": {"format": "interleaved", "place": units, "cuts": {"speech": [1, 3], "text": [1, 2]}},
        "heard": {"format": "speech-to-text", "place": units, "weights": {"given": 0.0}},
        "text": {"format": "text", "place": str(places["text"])},
    }
    given = {
        "task": "antiphon.train.speech_lm.task:SpeechLMTask",
        "model": {"llm": str(places["llm"]), "layers": 2},
        "data": {"sources": sources, "mix": {"weights": {"text": 5}}, "tokens": 64, "held_out": 4},
        "steps": 6, "batch": 6, "out": str(out), "precision": "float32", "sample_every": 0, "log_every": 2,
    }  # fmt: skip
    return StageConfig(**{**given, **changes})


def test_a_batch_follows_from_its_number_and_holds_whole_examples(places, tmp_path):
    one, two = (build_task(recipe(places, tmp_path)) for _ in range(2))
    for step in (3, 0):
        assert all(torch.equal(a, b) for a, b in zip(one.batch(step), two.batch(step)))
    tokens, weights, segments = one.batch(1)
    assert tokens.shape == weights.shape == segments.shape and tokens.shape[1] <= 64
    assert int(segments.unique(dim=None).numel()) > 2 or len(tokens) == 6
    begins = (tokens == one.model.vocabulary.tag("B")) & (segments > 0)
    assert int(begins.sum()) == 6


def test_packed_losses_are_those_of_examples_alone(places, tmp_path):
    task = build_task(recipe(places, tmp_path))
    tokens, weights, segments = task.batch(2)
    assert segments.max() > 1
    packed = task.losses((tokens, weights, segments))["lm"]
    total = count = 0.0
    for number in range(12, 18):
        example = task.example(number)
        alone = torch.from_numpy(example.tokens)[None], torch.from_numpy(example.weights)[None]
        total, count = total + task.model.losses(*alone).sum().item(), count + float(example.weights[1:].sum())
    assert abs(packed.item() - total / count) < 1e-5


def test_what_is_held_out_is_in_no_batch(places, tmp_path):
    task = build_task(recipe(places, tmp_path))
    for name, source in task.sources.items():
        if name == "text":
            kept, apart = set(source.lines), set(task.held[name].lines)
        else:
            kept = {source.codes.rows[place].id for place in source.places}
            apart = {source.codes.rows[place].id for place in task.held[name].places}
        assert kept and apart and not kept & apart
        assert all(is_held_out(each, 4) for each in apart) and not any(is_held_out(each, 4) for each in kept)


def test_a_stage_is_stopped_goes_on_and_the_next_starts_from_it(places, tmp_path):
    folder = train(recipe(places, tmp_path / "whole"))
    half = recipe(places, tmp_path / "run")
    trainer = Trainer(half, torch.device("cpu"))
    for step in range(3):
        trainer.step(step, [trainer.task.batch(step)])
    trainer.save(3)
    again = train(recipe(places, tmp_path / "run"))
    one, two = SpeechLM.from_pretrained(folder), SpeechLM.from_pretrained(again)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values()))
    following = Trainer(recipe(places, tmp_path / "next", init=str(folder)), torch.device("cpu"))
    begun = following.task.model.state_dict()
    assert all(torch.equal(begun[name], value) for name, value in one.state_dict().items())
    other = recipe(places, tmp_path / "other", init=str(folder), model={"llm": str(places["llm"]), "layers": 2, "speakers": ["joe"]})  # fmt: skip # noqa: E501
    with pytest.raises(AntiphonError, match="another vocabulary"):
        Trainer(other, torch.device("cpu"))


def test_it_learns_measures_and_shows_what_it_hears(places, tmp_path):
    config = recipe(places, tmp_path)
    config.data["sources"] = {"heard": config.data["sources"]["heard"]}
    config.data.pop("mix")
    config.model = {"llm": str(places["llm"]), "layers": 2, "width": 64}
    task = build_task(config)
    optimizer = torch.optim.AdamW(task.model.parameters(), lr=5e-3)
    before = task.measure(0, {})
    for step in range(60):
        optimizer.zero_grad()
        task.losses(task.batch(step))["lm"].backward()
        optimizer.step()
    after = task.measure(60, {})
    assert set(after) == {"heard-text", "heard-text-perplexity", "heard-speech"}  # of speech, the tag at its end
    assert after["heard-text"] < 0.6 * before["heard-text"]
    task.model.eval()
    task.sample(60, tmp_path / "samples")
    lines = [json.loads(line) for line in (tmp_path / "samples" / "000060.jsonl").read_text().splitlines()]
    assert {line["said"] for line in lines} <= {row.text for row in task.held["heard"].codes.rows}
    assert lines and all(line["heard"] for line in lines)


def test_a_grid_of_codebooks_learns_too(places, tmp_path):
    config = recipe(places, tmp_path)
    units = str(write_units(tmp_path / "units", 12, codebooks=3))
    config.data["sources"] = {"speech": {"format": "speech", "place": units}, "back": {"format": "text-to-speech", "place": units}}  # fmt: skip # noqa: E501
    config.data["mix"] = {}
    config.model = {"llm": str(places["llm"]), "codebooks": 3, "deduplicated": False}
    task = build_task(config)
    tokens, weights, segments = task.batch(0)
    assert tokens.ndim == 3 and tokens.shape[1] == 3
    losses = task.losses((tokens, weights, segments))
    losses["lm"].backward()
    assert losses["lm"].isfinite() and all(p.grad is not None for p in task.model.parameters())


def test_other_passes_are_cut_elsewhere(places):
    model = speech_lm()
    config = SourceConfig("interleaved", str(places["units"]))
    source = open_source(config, model, 0, 0)
    assert (source.example(0, 1).tokens == open_source(config, model, 0, 0).example(0, 1).tokens).all()
    assert any(
        len(source.example(i, 0)) != len(source.example(i, 1))
        or (source.example(i, 0).tokens != source.example(i, 1).tokens).any()
        for i in range(8)
    )


def test_a_source_of_pieces_has_a_few_words_each_others_in_each_pass(places):
    model = speech_lm()
    source = open_source(SourceConfig("speech-to-text", str(places["units"]), words=[1, 2]), model, 0, 0)
    texts = [[undo(source.example(i, epoch).tokens, model)[-1].text for epoch in range(4)] for i in range(8)]
    assert all(len(text.split()) in (1, 2) for row in texts for text in row)
    assert any(len(set(row)) > 1 for row in texts)
    with pytest.raises(ConfigError, match="fewest and most"):
        SourceConfig("speech", "x", words=[3, 1])


def test_lines_of_text(tmp_path):
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"text": "one"}\n{"text": "two"}\n'))
    assert read_lines(tmp_path / "a.jsonl.gz") == ["one", "two"]
    with pytest.raises(DataError, match="none of the text sources"):
        read_lines(tmp_path)
    with pytest.raises(DataError, match=r"nothing\.txt cannot be read"):
        read_lines(tmp_path / "nothing.txt")


@pytest.mark.parametrize("family", CODECS)
def test_recordings_are_a_source_with_the_first_codebook_of_any_codec(places, tmp_path, family):
    torch.manual_seed(0)
    codec = CODECS[family]().eval()
    codec.save_pretrained(tmp_path / "codec")
    (tmp_path / "corpus").mkdir()
    for number in range(3):
        soundfile.write(tmp_path / "corpus" / f"{number}.wav", noise(1.0, number), 2400)
    sources = {"speech": {"format": "speech", "place": str(tmp_path / "corpus")}}
    data = {"sources": sources, "codec": str(tmp_path / "codec"), "held_out": 0}
    task = build_task(recipe(places, tmp_path / "run", data=data))
    vocabulary = task.model.vocabulary
    assert (vocabulary.codebooks, vocabulary.codebook_size) == (1, codec.codebook_size)
    assert vocabulary.codec == str(tmp_path / "codec") and len(task.sources["speech"]) == 3
    assert task.losses(task.batch(0))["lm"].isfinite()
    with pytest.raises(ConfigError, match="name the tokenizer"):
        build_task(recipe(places, tmp_path / "other", data={"sources": sources}))


def test_what_cannot_be_is_said(places, tmp_path):
    with pytest.raises(ConfigError, match=r"format is 'sing'; choose speech, speech-to-text"):
        build_task(recipe(places, tmp_path, data={"sources": {"a": {"format": "sing", "place": "x"}}}))
    with pytest.raises(ConfigError, match="there is no data.sources.a.plaice"):
        build_task(recipe(places, tmp_path, data={"sources": {"a": {"format": "speech", "plaice": "x"}}}))
    with pytest.raises(ConfigError, match="one at least must be of speech"):
        build_task(recipe(places, tmp_path, data={"sources": {"a": {"format": "text", "place": "x"}}}))
    with pytest.raises(DataError, match="20 units, the vocabulary has 1 of 30"):
        open_source(SourceConfig("speech", str(places["units"])), speech_lm(codebook_size=30))
    with pytest.raises(ConfigError, match="a multiple of 64"):
        build_task(recipe(places, tmp_path, model={"llm": str(places["llm"]), "width": 100, "layers": 2}))


def test_lower_layers_learn_letters_of_packed_units(places, tmp_path):
    changes = {"model": {"llm": str(places["llm"]), "layers": 2, "letters_layer": 1}, "batch": 12}
    task = build_task(recipe(places, tmp_path, **changes))
    plain = build_task(recipe(places, tmp_path, batch=12))
    plain.model.load_state_dict(task.model.state_dict(), strict=False)
    batch = task.batch(1)
    tokens, _, segments, spots, lengths, letters, counts = batch
    assert len(tokens) < 12  # packed
    said = {"".join(LETTERS[n - 1] for n in row[:count]) for row, count in zip(letters.tolist(), counts.tolist())}
    heard = [task.mixture.draw(number) for number in range(12, 24)]
    first_unit, texts = task.model.vocabulary.first_unit, set()
    for number, draw in zip(range(12, 24), heard):
        if draw.source == "heard":
            text = plain_text(task.sources["heard"][draw.index].text)
            doubled = sum(a == b for a, b in zip(text, text[1:]))
            if len(text) + doubled <= int((task.example(number).tokens >= first_unit).sum()):  # else CTC can't
                texts.add(text)
    assert said == texts and said
    units = tokens[:, :-1].flatten()[spots]
    there = torch.arange(spots.shape[1]) < lengths[:, None]
    assert bool((units[there] >= task.model.vocabulary.first_unit).all())
    owners = segments[:, :-1].flatten()[spots]
    assert all(len(set(row[:count].tolist())) == 1 for row, count in zip(owners, lengths.tolist()))

    losses = task.losses(batch)
    assert abs(losses["lm"].item() - plain.losses(plain.batch(1))["lm"].item()) < 1e-6
    losses["ctc"].backward()
    layers = task.model.lm.layers
    assert all(p.grad is not None for p in layers[0].parameters())
    assert all(p.grad is None for p in layers[1].parameters())


def test_the_letters_are_not_saved_and_another_stage_starts_without_them(places, tmp_path):
    changes = {"model": {"llm": str(places["llm"]), "layers": 2, "letters_layer": 2}, "objective": {"ctc": 0.5}}
    train(recipe(places, tmp_path / "one", steps=2, **changes))
    assert not [name for name in load_file(tmp_path / "one/model/model.safetensors") if "letters" in name]
    train(recipe(places, tmp_path / "two", steps=1, init=str(tmp_path / "one/model"), **changes))
    SpeechLM.from_pretrained(tmp_path / "two/model")
    with pytest.raises(ConfigError, match="letters_layer is 3"):
        build_task(recipe(places, tmp_path, model={"llm": str(places["llm"]), "layers": 2, "letters_layer": 3}))
