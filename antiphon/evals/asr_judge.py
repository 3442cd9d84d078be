"""The ASR judge, Whisper: what does a listener who never met our model understand?

Greedy, no timestamps, float32; English unless told otherwise. Whisper was made for windows of 30 s; most of the work on
a short clip goes into the padding. Here clips are padded by eight to ten seconds, those of like length heard together:
measured on 48 spoken trivia questions that gave the same word error rate in less than half of the time (two seconds
gave 0.8 points more errors, on rare names). Where the text goes on to the limit of this first pass or repeats itself
(one of Whisper's known failures, or just a long text), the clip is heard again with the full window and Whisper's own
limit.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from antiphon.audio.io import Audio
from antiphon.errors import EvalError
from antiphon.evals.metrics.text import loops

log = logging.getLogger(__name__)

SAMPLE_RATE = 16000
MAX_SECONDS = 30.0  # that Whisper hears at once
PAD_STEP_SECONDS = 2.0  # padded lengths are multiples of it
FIRST_MAX_TOKENS = 96  # of a first transcript: enough for most clips, and soon over where one never ends
MAX_TOKENS = 224  # of a second one: Whisper's own limit
START = (50258, 50259, 50359, 50363)  # <|startoftranscript|> <|en|> <|transcribe|> <|notimestamps|>
END = 50257
BLANK = 220  # " ", which may not come first


class AsrJudge:
    """Whisper with its own decoder.

    Args:
        model: a multilingual `transformers` Whisper; it is put into float32 and eval mode.
        tokenizer: a `tokenizers.Tokenizer` with Whisper's vocabulary.
    """

    def __init__(self, model, tokenizer) -> None:
        from transformers import WhisperFeatureExtractor
        from transformers.models.whisper.configuration_whisper import NON_SPEECH_TOKENS_MULTI

        self.model = model.float().eval()
        self.tokenizer = tokenizer
        self.features = WhisperFeatureExtractor(feature_size=model.config.num_mel_bins)
        vocabulary = model.config.vocab_size
        # Special tokens but the end, timestamps and signs of non-speech may not come: OpenAI's own defaults.
        banned = torch.zeros(vocabulary, dtype=torch.bool)
        banned[[t for t in NON_SPEECH_TOKENS_MULTI if t < vocabulary]] = True
        banned[END + 1 :] = True
        self.banned = banned
        self.max_tokens = min(MAX_TOKENS, model.config.max_target_positions - len(START))

    @classmethod
    def from_pretrained(cls, folder: str | Path | None = None) -> AsrJudge:
        """Reads Whisper.

        Args:
            folder: config.json, model.safetensors and tokenizer.json; None takes the preset's part "judge".

        Raises:
            EvalError: the folder holds no Whisper.
            HubError: the preset's part cannot be had.
        """
        from tokenizers import Tokenizer
        from transformers import WhisperForConditionalGeneration

        if folder is None:
            from antiphon import hub

            folder = hub.folder("judge")
        folder = Path(folder)
        try:
            model = WhisperForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:
            raise EvalError(f"{folder} holds no Whisper that can be read: {error}") from error
        return cls(model, tokenizer)

    def transcribe(
        self,
        clips: Sequence[Audio],
        batch: int = 16,
        min_padding: float = 8.0,
        max_tokens: int = FIRST_MAX_TOKENS,
        progress: Callable[[int], None] | None = None,
        language: str = "en",
    ) -> list[str]:
        """What is said in each clip.

        Args:
            clips: at most 30 s each, any sample rate.
            batch: clips heard at once.
            min_padding: seconds; 30 gives Whisper's own full window.
            max_tokens: of a first transcript; one that gets this long is made again, of up to `MAX_TOKENS`.
            progress: called with the number of clips just done.
            language: that is spoken, Whisper's code.

        Returns:
            The texts, in the order of the clips.

        Raises:
            EvalError: a clip longer than 30 s; a language that Whisper doesn't know.
        """
        waves, start = [self._wave(i, clip) for i, clip in enumerate(clips)], self._start(language)
        texts = [""] * len(waves)
        doubtful = []
        for samples, rows in batches([len(w) for w in waves], min_padding, batch):
            heard = self._hear([waves[i] for i in rows], samples, max_tokens, start)
            for i, (text, finished) in zip(rows, heard, strict=True):
                texts[i] = text
                # What repeats itself in the full window already would do so again.
                if not finished or (loops(text) and samples < MAX_SECONDS * SAMPLE_RATE):
                    doubtful.append(i)
            if progress:
                progress(len(rows))
        for i in doubtful:
            log.debug("clip %d again with the full window: %r", i, texts[i])
            texts[i] = self._hear([waves[i]], int(MAX_SECONDS * SAMPLE_RATE), self.max_tokens, start)[0][0]
        return texts

    def _wave(self, index: int, clip: Audio) -> Tensor:
        if clip.duration > MAX_SECONDS:
            raise EvalError(
                f"Clip {index} is {clip.duration:.1f} s long; the ASR judge hears up to {MAX_SECONDS:.0f} s."
            )
        wave = clip.mono().resample(SAMPLE_RATE).samples.float()
        # Some of our sounds end in their last phoneme; an empty one must still give one frame.
        return wave if wave.numel() else torch.zeros(160)

    def _start(self, language: str) -> tuple[int, ...]:
        if language == "en":
            return START
        if (token := self.tokenizer.token_to_id(f"<|{language}|>")) is None:
            raise EvalError(f"Whisper knows no language {language!r}.")
        return (START[0], token, *START[2:])

    def compare(
        self, clips: Sequence[Audio], texts: Sequence[str], batch: int = 16, min_padding: float = 2.0
    ) -> list[tuple[str, float]]:
        """What is said in each clip, and how clearly it says a text; for ranking clips of one text, in one hearing.

        Args:
            clips, batch: as in `transcribe`.
            texts: that the clips should say.
            min_padding: seconds; little, since it is the same for all that are compared.

        Returns:
            (transcript, nats a token that the judge needs to write the text) of each clip.

        Raises:
            EvalError: a clip longer than 30 s.
        """
        waves = [self._wave(i, clip) for i, clip in enumerate(clips)]
        found: list[tuple[str, float]] = [("", 0.0)] * len(waves)
        for samples, rows in batches([len(w) for w in waves], min_padding, batch):
            memory = self._memory([waves[i] for i in rows], samples)
            heard = self._decode(memory, min(FIRST_MAX_TOKENS, self.max_tokens))
            nats = self._nats(memory, [texts[i] for i in rows])
            for i, (text, finished), each in zip(rows, heard, nats, strict=True):
                if not finished or loops(text):
                    text = self._hear([waves[i]], int(MAX_SECONDS * SAMPLE_RATE), self.max_tokens)[0][0]
                found[i] = text, each
        return found

    @torch.inference_mode()
    def _nats(self, memory: Tensor, texts: list[str]) -> list[float]:
        """Mean negative log-likelihood of each text's tokens and its end, given the sound alone."""
        ids = [self.tokenizer.encode(" " + text.strip(), add_special_tokens=False).ids for text in texts]
        spelt = [[*each[: self.max_tokens - 1], END] for each in ids]
        longest = max(map(len, spelt))
        targets = torch.tensor([ids + [-1] * (longest - len(ids)) for ids in spelt])
        start = torch.tensor([START] * len(texts))
        given = torch.cat([start, targets[:, :-1].clamp_min(0)], dim=1)
        states = self.model.model.decoder(input_ids=given, encoder_hidden_states=memory).last_hidden_state
        logits = self.model.proj_out(states[:, len(START) - 1 :]).float()
        losses = torch.nn.functional.cross_entropy(logits.mT, targets, ignore_index=-1, reduction="none")
        return (losses.sum(1) / (targets >= 0).sum(1)).tolist()

    def _hear(
        self, waves: list[Tensor], samples: int, max_tokens: int, start: tuple[int, ...] = START
    ) -> list[tuple[str, bool]]:
        """Returns (text, whether it came to an end by itself) for a batch padded to `samples`."""
        return self._decode(self._memory(waves, samples), max_tokens, start)

    @torch.inference_mode()
    def _memory(self, waves: list[Tensor], samples: int) -> Tensor:
        """What the encoder makes of a batch padded to `samples`, [batch, frames, width]."""
        samples -= samples % 320  # two mel frames make one of the encoder's
        mel = self.features(
            [w.numpy() for w in waves], sampling_rate=SAMPLE_RATE, padding="max_length", max_length=samples,
            truncation=True, return_tensors="pt",
        ).input_features  # fmt: skip
        return self.encode(mel)

    @torch.inference_mode()
    def _decode(self, memory: Tensor, max_tokens: int, start: tuple[int, ...] = START) -> list[tuple[str, bool]]:
        """Greedy transcripts, and whether each came to an end by itself."""
        rows = torch.arange(len(memory))
        tokens = torch.tensor([start] * len(memory))
        out: list[list[int]] = [[] for _ in memory]
        cache = None
        decoder = self.model.model.decoder
        for position in range(max_tokens):
            step = decoder(input_ids=tokens, encoder_hidden_states=memory, past_key_values=cache, use_cache=True)
            cache = step.past_key_values
            logits = self.model.proj_out(step.last_hidden_state[:, -1])
            logits[:, self.banned] = -torch.inf
            if position == 0:
                logits[:, [BLANK, END]] = -torch.inf
            best = logits.argmax(-1)
            going = best != END
            for row, token in zip(rows[going].tolist(), best[going].tolist(), strict=True):
                out[row].append(token)
            if not going.any():
                rows = rows[:0]
                break
            if not going.all():  # rows that ended leave the batch: long transcripts must not make short ones dear
                keep = going.nonzero()[:, 0]
                rows, memory, best = rows[keep], memory[keep], best[keep]
                cache.batch_select_indices(keep)
            tokens = best[:, None]
        unfinished = set(rows.tolist())
        return [(self.tokenizer.decode(ids).strip(), i not in unfinished) for i, ids in enumerate(out)]

    @torch.inference_mode()
    def encode(self, mel: Tensor) -> Tensor:
        """Whisper's encoder on a window shorter than 30 s: the positions are cut to its length.

        Args:
            mel: [B, 80, T], T even and at most 3,000.

        Returns:
            [B, T / 2, width].
        """
        encoder = self.model.model.encoder
        x = torch.nn.functional.gelu(encoder.conv1(mel))
        x = torch.nn.functional.gelu(encoder.conv2(x)).mT
        x = x + encoder.embed_positions.weight[: x.shape[1]]
        for layer in encoder.layers:
            x = layer(x, None)
        return encoder.layer_norm(x)


def batches(lengths: Sequence[int], min_padding: float, batch: int) -> list[tuple[int, list[int]]]:
    """Puts clips together that are padded to the same length.

    That length follows from a clip's own alone (a multiple of `PAD_STEP_SECONDS`), so that its transcript doesn't
    depend on what else is heard.

    Args:
        lengths: samples of each clip.
        min_padding: seconds, where the window has room for it.
        batch: clips at once, at most.

    Returns:
        (samples to pad to, indices of clips), the shortest first.
    """
    step, window = int(PAD_STEP_SECONDS * SAMPLE_RATE), int(MAX_SECONDS * SAMPLE_RATE)
    groups: dict[int, list[int]] = {}
    for i, length in enumerate(lengths):
        groups.setdefault(min(window, -(-(length + int(min_padding * SAMPLE_RATE)) // step) * step), []).append(i)
    return [
        (samples, rows[i : i + batch]) for samples, rows in sorted(groups.items()) for i in range(0, len(rows), batch)
    ]
