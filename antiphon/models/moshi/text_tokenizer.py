"""Text as pieces: words to ids and back, with room for "no word here" (Defossez et al. 2024, section 3.4.4).

Ids 0 to 3 are kept: end_pad (0), unknown (1), end (2), pad (3), as in Moshi's vocabulary. The rest is a byte-level BPE
(library `tokenizers`), in which a piece with a space before it begins a word. Moshi's own SentencePiece model is read
too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from antiphon.errors import ConfigError, HubError

END_PAD, UNKNOWN, END, PAD = 0, 1, 2, 3
SPECIAL = ("<end_pad>", "<unk>", "<end>", "<pad>")
FILE = "tokenizer.json"


class TextTokenizer:
    """Words to pieces and back.

    Args:
        model: a `tokenizers.Tokenizer`, or a `sentencepiece.SentencePieceProcessor`.

    Attributes:
        pad, end_pad: the ids 3 and 0.
    """

    pad, end_pad = PAD, END_PAD

    def __init__(self, model):
        self.model = model
        self._spm = not hasattr(model, "get_vocab_size")
        if not self._spm:
            model.encode_special_tokens = True  # a text that says "<pad>" is no silence

    def __len__(self) -> int:
        """How many pieces there are, special ones included."""
        return self.model.get_piece_size() if self._spm else self.model.get_vocab_size()

    @classmethod
    def train(cls, texts: Iterable[str], size: int) -> TextTokenizer:
        """Learns pieces from texts.

        Args:
            texts: as they are spoken, any length.
            size: pieces at most, special ones included; at least 260 (all bytes must be there).

        Raises:
            ConfigError: too few pieces.
        """
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

        if size < len(SPECIAL) + 256:
            raise ConfigError(
                f"{size} pieces are too few: at least {len(SPECIAL) + 256} are needed (special ones and all bytes)."
            )
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=size,
            special_tokens=list(SPECIAL),
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        tokenizer.train_from_iterator((f" {' '.join(text.split())}" for text in texts), trainer)
        return cls(tokenizer)

    def encode_word(self, word: str, first: bool = False) -> list[int]:
        """Ids of one word.

        Args:
            word: without spaces around it, punctuation included.
            first: whether it stands without a space before it. A model needs not know the difference: `decode` cuts
                a space at the start off, and SentencePiece's words all begin with one.
        """
        word = word.strip()
        if not word:
            return []
        if self._spm:
            return list(self.model.encode(word))
        return self.model.encode(word if first else f" {word}", add_special_tokens=False).ids

    def encode(self, text: str) -> list[int]:
        """Ids of a text, word by word."""
        return [i for word in text.split() for i in self.encode_word(word)]

    def starts_word(self, piece: int) -> bool:
        """Whether a piece begins with a space, and so begins a word."""
        if piece <= PAD:
            return False
        token = self.model.id_to_piece(piece) if self._spm else self.model.id_to_token(piece)
        return token is not None and token.startswith(("\u2581", "\u0120"))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of pieces; special ones and negative ids are passed over, and spaces around it are cut off."""
        known = [i for i in map(int, ids) if i > PAD]
        if self._spm:
            return self.model.decode(known).strip()
        return self.model.decode(known, skip_special_tokens=True).strip()

    def piece(self, piece: int) -> str:
        """What one piece adds to a text, with its space; "" for special ones."""
        if piece <= PAD:
            return ""
        if self._spm:
            return self.model.id_to_piece(piece).replace("\u2581", " ")
        return self.model.decode([piece])

    def save(self, folder: Path | str) -> None:
        """Writes tokenizer.json (tokenizer.model, where the pieces are SentencePiece's)."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if self._spm:
            (folder / "tokenizer.model").write_bytes(self.model.serialized_model_proto())
        else:
            self.model.save(str(folder / FILE))

    @classmethod
    def from_pretrained(cls, folder: Path | str) -> TextTokenizer:
        """Reads tokenizer.json of a folder, or a SentencePiece model (tokenizer*.model, as Moshi's), or such a file.

        Raises:
            HubError: there is none, it can't be read, or its first ids mean something else.
        """
        path = Path(folder)
        files = [path] if path.is_file() else [path / FILE, *sorted(path.glob("tokenizer*.model"))]
        file = next((each for each in files if each.is_file()), None)
        if file is None:
            raise HubError(f"{path} has no text pieces: {FILE} or tokenizer*.model is expected there.")
        return cls._spm_from(file) if file.suffix == ".model" else cls._from_json(file)

    @classmethod
    def _from_json(cls, file: Path) -> TextTokenizer:
        from tokenizers import Tokenizer

        try:
            model = Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises plain Exception
            raise HubError(f"{file} cannot be read ({error}).") from error
        if [model.id_to_token(i) for i in range(len(SPECIAL))] != list(SPECIAL):
            raise HubError(f"{file} holds other pieces than ours: its first ids should be {', '.join(SPECIAL)}.")
        return cls(model)

    @classmethod
    def _spm_from(cls, file: Path) -> TextTokenizer:
        try:
            import sentencepiece
        except ImportError as error:
            raise HubError(f"{file} is SentencePiece's: pip install sentencepiece.") from error
        try:
            return cls(sentencepiece.SentencePieceProcessor(model_file=str(file)))
        except (RuntimeError, OSError) as error:
            raise HubError(f"{file} cannot be read ({error}).") from error
