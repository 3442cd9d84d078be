"""Stages of a speech language model: examples of any formats in any mixture, packed into rows.

A stage differs from another by its recipe alone: which sources in which formats, from which model, what trains. The
loss of each token counts what its format says; `lm` is their mean, and `speech` and `text` tell it by kind in the log.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import MISSING
from tokenizers import Tokenizer
from torch import Tensor

from antiphon.data.codes import CodeSet
from antiphon.data.formats.example import Example
from antiphon.data.formats.formats import prompt, undo
from antiphon.data.formats.sources import Formatted, SourceConfig, SpeechSource, open_source
from antiphon.data.mixture import Mix, Mixture
from antiphon.data.packing import fill, pack, stack
from antiphon.data.store import kind_of
from antiphon.data.tokenize.encode import open_codec, tokenized
from antiphon.errors import ConfigError
from antiphon.hub.folders import folder as folder_of
from antiphon.models.llm.llama import LlamaConfig
from antiphon.models.speech_lm.generate import generate
from antiphon.models.speech_lm.model import SpeechLM
from antiphon.models.speech_lm.vocabulary import SpeechVocabulary
from antiphon.train.config import Measures, StageConfig, typed
from antiphon.train.letters import LETTERS, letters_loss, spelt
from antiphon.train.prepare import preparing

Batch = tuple[Tensor, ...]  # tokens, weights, segments; what CTC reads where and which letters (`spoken_letters`)
MEASURED = 64  # examples of each source, at most
HEAD_DIM = 64


@dataclass
class SpeechLMModel:
    """What the model is built from; a later stage names the same and starts from the stage before with `init`."""

    llm: str = "smollm2-135m-instruct"
    """The text model: a part's name, a folder or a hub id. From scratch, only its tokenizer is used."""
    layers: int | None = None
    """Only so many; None for all. From scratch, how many."""
    last_layers: int = 0
    """Of these, how many are its last ones; the others are its first ones."""
    width: int | None = None
    """From scratch, of this width (a multiple of 64); None starts from the text model's weights."""
    codebooks: int = 1
    """Of the units, the first ones."""
    deduplicated: bool = True
    """Each run of equal units is one token."""
    speakers: list[str] = field(default_factory=list)
    """That get tags."""
    languages: list[str] = field(default_factory=list)
    """That get tags."""
    letters_layer: int = 0
    """The first so many layers also learn, by CTC, which letters the units of speech to text say; 0 for none."""


@dataclass
class SpeechLMData:
    """The mixture."""

    sources: dict[str, Any] = MISSING
    """Name -> a source, see `SourceConfig`."""
    codec: str | None = None
    """The tokenizer of sources that are recordings; those that are sets of codes need none."""
    mix: Mix = field(default_factory=Mix)
    """How often each comes."""
    tokens: int = 512
    """Length of a row; examples are packed into as few as they fit, longer ones are cut."""
    held_out: int = 50
    """One item in so many is kept apart, by its id, and measured; 0 for none."""
    pairs: str | None = None
    """Folder of spoken pairs (`antiphon eval speech-lm --material`), measured every `measure_every` steps too."""


class SpeechLMTask:
    """See the module, and the Task protocol of the engine."""

    Model, Data = SpeechLMModel, SpeechLMData

    def __init__(self, config: StageConfig):
        self.config, data = config, config.data
        configs = {
            name: typed(SourceConfig, given, f"data.sources.{name}") for name, given in dict(data.sources).items()
        }
        tokenize_sources(configs, data.codec, Path(config.out))
        self.model = build_model(config.model, configs, config.seed)
        self.letters_layer = config.model.letters_layer
        if not 0 <= self.letters_layer <= len(self.model.lm.layers):
            raise ConfigError(
                f"model.letters_layer is {self.letters_layer}: the model has {len(self.model.lm.layers)} layers"
            )
        if self.letters_layer:  # trains with the model and isn't saved with it
            self.model.letters = torch.nn.Linear(self.model.lm.width, len(LETTERS) + 1)
        args = (self.model, config.seed, data.held_out)
        self.sources: dict[str, Formatted] = {name: open_source(each, *args) for name, each in configs.items()}
        held = {name: open_source(each, *args, development=True) for name, each in configs.items()}
        self.held = {name: source for name, source in held.items() if len(source)}
        self.mixture = Mixture(self.sources, data.mix, config.seed)

    def example(self, number: int) -> Example:
        """Number `number` of the mixture, cut to a row's length."""
        draw = self.mixture.draw(number)
        return cut(self.sources[draw.source].example(draw.index, draw.epoch), self.config.data.tokens)

    def batch(self, step: int) -> Batch:
        """`config.batch` examples packed: tokens [rows, length] (or [rows, codebooks, length]), weights and segments
        [rows, length]; a function of the step alone."""
        first = step * self.config.batch
        examples = [self.example(first + number) for number in range(self.config.batch)]
        batch = stack(pack(examples, self.config.data.tokens))
        if not self.letters_layer:
            return batch
        draws = [self.mixture.draw(first + number).source for number in range(self.config.batch)]
        heard = [self.sources[name].config.format == "speech-to-text" for name in draws]
        return *batch, *spoken_letters(batch, examples, heard, self.model, self.config.data.tokens)

    def losses(self, batch: Batch, group: str = "model") -> dict[str, Tensor]:
        """lm: nats a token by their weights; speech, text: of each kind, for the log; ctc: nats a letter."""
        tokens, weights, segments, *spoken = batch
        below: list[Tensor] = []

        def between(number: int, x: Tensor) -> Tensor:
            below.extend([x] if number == self.letters_layer - 1 else [])
            return x

        hidden = self.model(tokens[..., :-1], segments=segments[:, :-1], between=between if spoken else None)
        losses, counted = self.model.losses(tokens, weights, hidden), weights[:, 1:]
        found = {"lm": losses.sum() / counted.sum().clamp_min(1e-6)}
        first = tokens if tokens.ndim == 2 else tokens[:, 0]
        in_text = self.model.vocabulary.in_text(first[:, :-1])
        for name, kind in (("speech", ~in_text), ("text", in_text)):
            if bool((total := (counted * kind).sum()) > 0):
                found[name] = (losses.detach() * kind).sum() / total
        if spoken and len(spoken[0]):
            places, lengths, letters, counts = spoken
            logits = self.model.letters(below[0].flatten(0, 1)[places])
            found["ctc"] = letters_loss(logits, lengths, letters, counts)
        return found

    def tokens(self, batch: Batch) -> int:
        """Columns that the model reads."""
        return int((batch[2] > 0).sum())

    def weights(self, batch: Batch) -> dict[str, float]:
        """What `lm` is the mean over."""
        return {"lm": float(batch[1][:, 1:].sum())}

    @torch.no_grad()
    def measure(self, step: int, measures: Measures) -> dict[str, float]:
        """Nats a token of what was kept apart, by source and kind, text as perplexity; and what the measure
        "speech-lm" says of the pairs that `data.pairs` names."""
        figures: dict[str, float] = {}
        for name, source in self.held.items():
            examples = [source.example(index) for index in range(min(MEASURED, len(source)))]
            examples = [cut(each, self.config.data.tokens) for each in examples]
            batch = stack(pack(examples, self.config.data.tokens))
            device = next(self.model.parameters()).device
            losses = self.losses(tuple(part.to(device) for part in batch))
            figures |= {f"{name}-{kind}": float(losses[kind]) for kind in ("speech", "text") if kind in losses}
            if "text" in losses:
                figures[f"{name}-text-perplexity"] = float(losses["text"].exp())
        if self.config.data.pairs and "speech-lm" in measures:
            figures |= measures["speech-lm"]((self.model, Path(self.config.data.pairs)))
        return figures

    def sample(self, step: int, folder: Path) -> None:
        """Writes what the model writes down of speech that was kept apart to `folder`/<step>.jsonl."""
        folder.mkdir(parents=True, exist_ok=True)
        lines = []
        for name, source in self.held.items():
            if not isinstance(source, SpeechSource) or source.config.format == "speech":
                continue
            items = [source[index] for index in range(min(8, len(source)))]
            heard = generate(self.model, [prompt(item, self.model, ("T",)) for item in items], 60)
            for item, tokens in zip(items, heard):
                written = " ".join(part.text for part in undo(tokens, self.model) if part.text)
                lines.append({"source": name, "said": item.text, "heard": written})
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        (folder / f"{step:06d}.jsonl").write_text(text, encoding="utf-8")

    def export(self, folder: Path) -> None:
        """Writes the model's folder, which `transformers` loads too."""
        self.model.save_pretrained(folder)


def spoken_letters(batch: Batch, examples: list[Example], heard: list[bool], model: SpeechLM, size: int) -> Batch:
    """Where a batch has units whose text follows, and what they say, for CTC.

    Args:
        batch: what `stack` made of the examples.
        examples: before they were packed.
        heard: which of them are of speech to text.
        model: whose ids these are.
        size: of the rows that they were packed into.

    Returns:
        Places [n, longest] of the units, counted through all rows but each row's last column; how many [n]; letters
        [n, longest] and how many [n]. Of examples that were cut, or have fewer units than CTC needs, none.
    """
    vocabulary, length = model.vocabulary, batch[0].shape[-1] - 1
    places, letters = [], []
    for row, items in enumerate(fill([len(example) for example in examples], size)):
        start = row * length
        for item in items:
            ids = examples[item].tokens
            ids = ids if ids.ndim == 1 else ids[0]
            if heard[item] and ids[-1] == vocabulary.tag("E"):
                units = np.flatnonzero(ids >= vocabulary.first_unit)
                text = ids[int(np.flatnonzero(ids == vocabulary.tag("T"))[0]) + 1 : -1]
                said = spelt(model.text_of(text.tolist()))
                doubled = int((said[1:] == said[:-1]).sum())  # a blank must stand between two equal ones
                if 0 < len(said) + doubled <= len(units):
                    places.append(torch.from_numpy(start + units))
                    letters.append(said)
            start += len(ids)
    if not places:
        nothing = torch.zeros(0, 0, dtype=torch.int64)
        return nothing, nothing.flatten(), nothing, nothing.flatten()
    pad = torch.nn.utils.rnn.pad_sequence
    counts = [torch.tensor([len(each) for each in several]) for several in (places, letters)]
    return pad(places, True), counts[0], pad(letters, True), counts[1]


def tokenize_sources(sources: dict[str, SourceConfig], codec: str | None, out: Path) -> None:
    """Makes units of the sources that are recordings, in the run's folder, once a place; they stand there from then on.

    Raises:
        ConfigError: it isn't said by which tokenizer.
    """
    speech = {name: each for name, each in sources.items() if each.format != "text" and kind_of(each.place) != "codes"}
    if speech and codec is None:
        name, each = next(iter(speech.items()))
        raise ConfigError(
            f"data.sources.{name}: {each.place} is no set of codes; make one with antiphon tokenize, or name the "
            "tokenizer (data.codec)"
        )
    with preparing(out) as resumed:
        places = sorted({each.place for each in speech.values()})
        tokenizer = open_codec(codec) if places and codec else None
        for number, place in enumerate(places):
            made = tokenized(place, tokenizer, str(codec), out / "units" / str(number), resumed=resumed).folder
            for each in speech.values():
                each.place = str(made) if each.place == place else each.place


def build_model(model: SpeechLMModel, sources: dict[str, SourceConfig], seed: int) -> SpeechLM:
    """The model of a recipe: its vocabulary has the units of the sources' tokenizer.

    Raises:
        ConfigError: no source of speech, or sizes that can't be.
    """
    place = next((each.place for each in sources.values() if each.format != "text"), None)
    if place is None:
        raise ConfigError("data.sources: one at least must be of speech, so that it is known which units there are")
    info, llm = CodeSet(place).info, folder_of(model.llm)
    config = LlamaConfig.from_file(llm / "config.json")
    vocabulary = SpeechVocabulary(
        config.vocab_size, info.codebook_size, model.codebooks, info.frame_rate, model.deduplicated, info.codec,
        info.fingerprint, tuple(model.speakers), tuple(model.languages),
    )  # fmt: skip
    if model.width is None:
        return SpeechLM.from_text(llm, vocabulary, model.layers, seed, model.last_layers)
    if model.width < HEAD_DIM or model.width % HEAD_DIM or not model.layers:
        raise ConfigError(
            f"model.width is {model.width}: from scratch, a multiple of {HEAD_DIM}, and layers, are needed"
        )
    heads, inner = model.width // HEAD_DIM, -(-8 * model.width // (3 * HEAD_DIM)) * HEAD_DIM
    sizes = LlamaConfig(
        model.width, inner, model.layers, heads, heads, HEAD_DIM, vocabulary.size, config.rms_norm_eps, 10000.0, 4096
    )
    return SpeechLM.from_scratch(sizes, vocabulary, Tokenizer.from_file(str(llm / "tokenizer.json")), seed)


def cut(example: Example, length: int) -> Example:
    """The example's first `length` columns."""
    if len(example) <= length:
        return example
    return Example(np.ascontiguousarray(example.tokens[..., :length]), example.weights[:length])
