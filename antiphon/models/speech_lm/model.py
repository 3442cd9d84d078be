"""A language model over speech and text: any model of `Llama`'s families with more rows in its vocabulary.

    model = SpeechLM.from_text("smollm2-135m-instruct", vocabulary, layers=12)     # as TWIST (Hassid et al. 2023)
    model = SpeechLM.from_scratch(LlamaConfig(...), vocabulary)
    hidden = model(tokens)                     # [batch, length], or [batch, codebooks, length] for several codebooks
    logits = model.logits(hidden)              # over tags and units of the first codebook; in_text=True: tags and text
    model.save_pretrained(folder)              # an ordinary folder of `transformers`

Several codebooks stand in a grid: the columns of speech hold a unit of each, shifted by `nn.delays` (the delay pattern
of MusicGen, Copet et al. 2023), all others something in the first stream alone. What goes in is the sum of the rows of
a column's ids, and each stream has the rows of its own units for a head; so there are no other weights than an ordinary
model's.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer
from torch import Tensor, nn

from antiphon.errors import ModelError
from antiphon.hub.folders import folder as folder_of
from antiphon.models.llm.llama import Llama, LlamaConfig, published_key
from antiphon.models.llm.load import load_causal_lm
from antiphon.models.speech_lm.vocabulary import NOTHING, TAGS, SpeechVocabulary
from antiphon.nn.cache import KeyValues

SECTION = "speech"  # of config.json


class SpeechLM(nn.Module):
    """See the module.

    Args:
        lm: with `vocabulary.size` rows.
        vocabulary: what they stand for.
        published: config.json of the folder that it is saved in, as far as `lm.config` doesn't say it.
        tokenizer: of the text alone.
    """

    def __init__(self, lm: Llama, vocabulary: SpeechVocabulary, published: dict[str, Any], tokenizer: Tokenizer):
        super().__init__()
        if lm.config.vocab_size != vocabulary.size:
            raise ModelError(f"the language model has {lm.config.vocab_size} tokens, the vocabulary {vocabulary.size}")
        self.lm, self.vocabulary, self.published = lm, vocabulary, published
        self.tokenizer = tokenizer
        self.tokenizer.encode_special_tokens = True  # what a text looks like never makes a tag of it

    @classmethod
    def from_text(
        cls,
        llm: Path | str,
        vocabulary: SpeechVocabulary,
        layers: int | None = None,
        seed: int = 0,
        last_layers: int = 0,
    ) -> SpeechLM:
        """From a text model's folder, part or hub id: its rows stay, and new ones are added behind them.

        Args:
            llm: the text model; packed weights become plain ones.
            vocabulary: its `text` must be the model's number of rows.
            layers: keep only so many.
            seed: of the new rows.
            last_layers: how many of these are its last ones, those before the head; the others are its first ones.

        Raises:
            ModelError: another family than Llama's, or another size.
        """
        place = folder_of(llm)
        published = json.loads((place / "config.json").read_text(encoding="utf-8"))
        lm = Llama.from_pretrained(place, torch.float32)
        for name in ("quantization_config", "layer_types"):  # plain weights; every layer sees everything
            published.pop(name, None)
        if layers is None and last_layers:
            raise ModelError(f"last_layers is {last_layers} of how many? give layers, too")
        if layers is not None:
            if not 1 <= layers <= len(lm.layers):
                raise ModelError(f"{place} has {len(lm.layers)} layers, not {layers}")
            if not 0 <= last_layers < layers:
                raise ModelError(f"of {layers} layers {last_layers} can't be the last ones: 0 to {layers - 1}")
            lm.layers = lm.layers[: layers - last_layers] + lm.layers[len(lm.layers) - last_layers :]
        tokenizer = Tokenizer.from_file(str(place / "tokenizer.json"))
        if vocabulary.text != lm.config.vocab_size:
            raise ModelError(f"{place} has {lm.config.vocab_size} tokens of text, the vocabulary {vocabulary.text}")
        extend(lm, vocabulary, tokenizer, seed)
        lm.config = dataclasses.replace(lm.config, vocab_size=vocabulary.size, num_hidden_layers=len(lm.layers))
        return cls(lm.requires_grad_(True), vocabulary, published, tokenizer)

    @classmethod
    def from_scratch(
        cls, config: LlamaConfig, vocabulary: SpeechVocabulary, tokenizer: Tokenizer, seed: int = 0
    ) -> SpeechLM:
        """A new model: normal weights of 0.02, those that end a residual branch smaller by the number of branches
        (GPT-2's initialisation)."""
        generator = torch.Generator().manual_seed(seed)
        lm = Llama(dataclasses.replace(config, vocab_size=vocabulary.size, packed=False))
        for name, parameter in lm.named_parameters():
            if parameter.ndim > 1:
                ends = name.endswith(("o_proj.weight", "down_proj.weight"))
                spread = 0.02 / (2 * len(lm.layers)) ** 0.5 if ends else 0.02
                nn.init.normal_(parameter, std=spread, generator=generator)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
        kind = "qwen3" if config.qk_norm else "qwen2" if config.qkv_bias and not config.o_bias else "llama"
        return cls(lm, vocabulary, {"model_type": kind, "attention_bias": config.o_bias}, tokenizer)

    def embed(self, tokens: Tensor) -> Tensor:
        """Ids [batch, length], or a grid [batch, codebooks, length], to float32 [batch, length, width]."""
        if tokens.ndim == 2:
            return self.lm.embed(tokens)
        there = tokens != NOTHING
        return (self.lm.embed(tokens.clamp_min(0)) * there[..., None]).sum(1)

    def forward(
        self,
        tokens: Tensor,
        cache: KeyValues | None = None,
        segments: Tensor | None = None,
        between: Callable[[int, Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Last hidden states [batch, length, width] of ids [batch, length] or a grid [batch, codebooks, length];
        `segments` [batch, length] says which example a column is of, where a row holds several; `between` as in
        `Llama.forward`."""
        return self.lm(self.embed(tokens), cache, segments=segments, between=between)

    def logits(self, hidden: Tensor, stream: int = 0, in_text: bool = False) -> Tensor:
        """Hidden states [..., width] to logits [..., n] over the ids `vocabulary.head(stream, in_text)`, float32.

        What a column is says what may follow it (`SpeechVocabulary.in_text`), so that units never compete with the
        fifty thousand tokens of a text; a softmax over all would cost more than the layers of a small model.
        """
        table = self.lm.embed_tokens if self.lm.lm_head is None else self.lm.lm_head
        return F.linear(hidden, table.weight[self.vocabulary.head(stream, in_text)]).float()

    def losses(self, tokens: Tensor, weights: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Cross-entropy of each token in nats, each predicted from the columns before it, times its weight.

        Args:
            tokens: [batch, length] or [batch, codebooks, length].
            weights: [batch, length]; a column without weight isn't computed.
            hidden: what the model gives for all columns but the last [batch, length - 1, width]; computed if not given.

        Returns:
            [batch, length - 1], for the columns from the second on; the mean over the streams that have something.
        """
        grid = tokens if tokens.ndim == 3 else tokens[:, None]
        hidden = self(tokens[..., :-1]) if hidden is None else hidden
        wanted, in_text = weights[:, 1:] != 0, self.vocabulary.in_text(grid[:, 0, :-1])
        total = torch.zeros(wanted.shape, device=hidden.device)
        count = torch.zeros_like(total)
        for stream in range(grid.shape[1]):
            target = grid[:, stream, 1:]
            for text in (False, True) if stream == 0 else (False,):
                here = wanted & (target != NOTHING) & (in_text == text if stream == 0 else True)
                if bool(here.any()):
                    logits = self.logits(hidden[here], stream, text)
                    own = target[here] - self.vocabulary.head(stream, text).start
                    total = total.masked_scatter(here, total[here] + F.cross_entropy(logits, own, reduction="none"))
                    count = count + here
        return total / count.clamp_min(1) * weights[:, 1:]

    def text_ids(self, text: str) -> list[int]:
        """Ids of a text, which are never those of tags."""
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def text_of(self, ids: list[int]) -> str:
        """The inverse of `text_ids`."""
        return self.tokenizer.decode(ids, skip_special_tokens=False)

    def save_pretrained(self, folder: Path | str) -> None:
        """Writes config.json, model.safetensors and tokenizer.json, as `transformers` reads them; what the ids stand
        for is the section "speech" of config.json."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config, kind = self.lm.config, self.published.get("model_type", "llama")
        values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
        for ours in ("qkv_bias", "o_bias", "qk_norm", "packed"):
            values.pop(ours)
        ids = {"bos_token_id": self.vocabulary.tag("B"), "eos_token_id": self.vocabulary.tag("E"), "pad_token_id": None}
        names = {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3"}
        said = {"architectures": [f"{names[kind]}ForCausalLM"], "dtype": "float32", "hidden_act": "silu"}
        told = {**self.published, **values, **said, **ids, SECTION: self.vocabulary.to_dict()}
        (folder / "config.json").write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
        weights = {published_key(key): value for key, value in self.lm.state_dict().items()}
        weights = {key: value.detach().float().contiguous().cpu() for key, value in weights.items()}
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        with_tags(self.tokenizer, self.vocabulary).save(str(folder / "tokenizer.json"))
        (folder / "tokenizer_config.json").write_text(
            json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|B|>", "eos_token": "<|E|>"}),
            encoding="utf-8",
        )

    def read_weights(self, folder: Path | str) -> dict[str, Tensor]:
        """What a folder holds, under the names of this model's parameters; its vocabulary must be this one's.

        Raises:
            ModelError: it is another one's.
        """
        other = SpeechLM.from_pretrained(folder)
        if other.vocabulary != self.vocabulary:
            raise ModelError(f"{folder} has another vocabulary than this model: its units or tags are others")
        return other.state_dict()

    @classmethod
    def from_pretrained(cls, folder: Path | str) -> SpeechLM:
        """Reads what `save_pretrained` wrote, in evaluation mode.

        Raises:
            ModelError: something else.
        """
        folder = Path(folder)
        try:
            published = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            section = published.pop(SECTION)
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(
                f"{folder} holds no speech language model (its config.json has no section {SECTION!r}): train one with "
                "antiphon train speech-lm/speech"
            ) from error
        vocabulary = SpeechVocabulary.from_dict(section, str(folder / "config.json"))
        lm = load_causal_lm(folder)
        if not isinstance(lm, Llama):
            raise ModelError(f"{folder} is none of Llama's families, which speech language models are made of")
        return cls(lm, vocabulary, published, Tokenizer.from_file(str(folder / "tokenizer.json"))).eval()


@torch.no_grad()
def extend(lm: Llama, vocabulary: SpeechVocabulary, tokenizer: Tokenizer, seed: int = 0) -> None:
    """Adds rows for tags and units to a text model's embeddings and, where it has its own, its head.

    Units get the mean of the old rows and, dimension by dimension, their spread (after Hewitt 2021, so that no new
    token is likelier than an average old one); a tag the mean of the rows of the word that means about the same, with a
    tenth of that spread so that no two are equal.
    """
    generator = torch.Generator().manual_seed(seed)
    words = [TAGS.get(name, name.partition(":")[2]) for name in vocabulary.names]
    pieces = [tokenizer.encode(f" {word}", add_special_tokens=False).ids for word in words]
    for module in (lm.embed_tokens, lm.lm_head):
        if module is None:
            continue
        old = module.weight.detach()
        spread, fresh = old.std(0), vocabulary.size - len(old)
        noise = torch.randn(fresh, old.shape[1], generator=generator).to(old) * spread
        rows = old.mean(0) + noise
        for place, ids in enumerate(pieces):
            known = [each for each in ids if each < len(old)]
            if known:
                rows[place] = old[known].mean(0) + 0.1 * noise[place]
        module.weight = nn.Parameter(torch.cat((old, rows)))
        if isinstance(module, nn.Embedding):
            module.num_embeddings = vocabulary.size
        else:
            module.out_features = vocabulary.size


def with_tags(tokenizer: Tokenizer, vocabulary: SpeechVocabulary) -> Tokenizer:
    """A copy of a text tokenizer that knows tags and units by their names, with the ids that they have.

    Ids of the model that the tokenizer doesn't know (models round their number of rows up) are given names first.
    """
    whole = Tokenizer.from_str(tokenizer.to_str())
    fill = [f"<|unused{i}|>" for i in range(whole.get_vocab_size(), vocabulary.text)]
    names = fill + [vocabulary.token_name(i) for i in range(vocabulary.text, vocabulary.size)]
    whole.add_special_tokens([AddedToken(name, special=True) for name in names])
    if whole.token_to_id("<|S|>") != vocabulary.tag("S"):
        raise ModelError("the text tokenizer has tokens that the model has no rows for, or tags of its own")
    return whole
