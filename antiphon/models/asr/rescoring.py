"""Which of several transcripts was said: the decoder's doubts, weighed by a language model.

A decoder that writes the likeliest token each time decides for sounds alone whether a calf was "called what" or "called
Watt". Where it wavers, the transcript with the other token is written too, and a language model that knows what people
say tells which is likelier: log p(words | sound) + WEIGHT log p(words), as in n-best rescoring and shallow fusion
(Kannan et al. 2018). Both are sums, so a word less is always likelier to the language model: each of its tokens gets
back what a token of what people say costs on average.
"""

from __future__ import annotations

from tokenizers import Tokenizer

from antiphon.encoders.whisper.decoder import WhisperDecoder, Writing
from antiphon.models.asr.heard import Likelihoods
from antiphon.models.llm.text import as_words

WEIGHT = 0.15  # of the language model
TOKEN = 2.0  # nats that a token costs it on average
MARGIN = 1.25  # nats that a rival may be less likely; beyond that it seldom was what was said, and asking takes time
ALTERNATIVES = 2  # that are written
MISSING_WORDS = 1  # that an alternative may have less: one that stops too early is always likelier
MAX_TOKENS = 40  # of a transcript; in a longer one the decoder has words enough around each to go by


def reconsidered(writing: Writing, decoder: WhisperDecoder, whisper: Tokenizer, likelihoods: Likelihoods) -> Writing:
    """The transcript that decoder and language model together find likeliest.

    Args:
        writing: the decoder's own, ended.
        decoder: that wrote it.
        whisper: its tokenizer.
        likelihoods: the language model's.
    """
    if len(writing.tokens) > MAX_TOKENS:
        return writing
    candidates = {as_words(text := whisper.decode(writing.tokens).strip()): (writing, text)}
    words, likely = len(text.split()), sum(writing.sure)
    for at in wavering(writing):
        other = decoder.branch(writing, at)
        while not other.over:
            decoder.advance(other)
        text = whisper.decode(other.tokens).strip()
        whole = other.ended and text and len(text.split()) >= words - MISSING_WORDS
        if whole and sum(other.sure) > likely - MARGIN:
            candidates.setdefault(as_words(text), (other, text))
    if len(candidates) == 1:
        return writing
    written, texts = zip(*candidates.values(), strict=True)
    scores = [
        sum(each.sure) + WEIGHT * (said + TOKEN * count)
        for each, (said, count) in zip(written, likelihoods(texts), strict=True)
    ]
    return written[max(range(len(scores)), key=scores.__getitem__)]


def wavering(writing: Writing) -> list[int]:
    """Where a transcript's tokens have the closest rivals, the closest first; nowhere of a sure one."""
    gaps = [sure - rival for sure, (_, rival) in zip(writing.sure, writing.rivals)]
    return [at for at in sorted(range(len(gaps)), key=gaps.__getitem__)[:ALTERNATIVES] if gaps[at] < MARGIN]
