"""Several channels into one, without losing what is in opposite phase.

The mean is right for nearly all recordings. It is nothing where a channel is another's negative (a cable soldered the
wrong way, a "widened" voice). That may be so in a part of a recording only, so half a second at a time is decided on:
where the mean cancels, a loud channel is taken instead. The cuts lie on a grid from the start of the sound and no
decision looks ahead, so pieces of any size give what the whole gives.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BLOCK = 0.5  # seconds
FADE = 0.01  # seconds from one mixture to the next: a jump would be heard as a click
# The mean's power over what channels that have nothing to do with each other would give: 1 for these and for a sound in
# one channel, 2 for the same in both of two, 0 for opposite ones. Noise of its own in each channel fills the gap: this
# tells opposite speech up to noise 5 dB below it.
CANCELS = 0.25
# Hum that a balanced cable brings into both channels in opposite phase is better cancelled: what counts is louder than
# -30 dB of the loudest so far.
MATTERS = 1e-3


class Downmix:
    """Makes one channel of several, piece by piece.

    Args:
        channels: how many come in.
        sample_rate: Hz.
        block: seconds that are decided on at once, and that are held back at most.
    """

    def __init__(self, channels: int, sample_rate: int, block: float = BLOCK) -> None:
        self.size, self.fade = max(1, round(block * sample_rate)), max(1, round(FADE * sample_rate))
        self.mean = np.full(channels, 1 / channels, np.float32)
        self.only = tuple(np.eye(channels, dtype=np.float32))
        self._rest = np.zeros((channels, 0), np.float32)
        self._weights = self.mean  # of the channels, in the block before
        self._channel = 0  # the one that is taken where the mean cancels
        self._loudest = 0.0  # power of the loudest block

    def step(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """More of the sound, [channels, samples]; the mono samples [samples] that it completes."""
        if len(self.mean) == 1:
            return samples[0]
        if self._rest.shape[1]:
            samples = np.concatenate([self._rest, samples], axis=1)
        whole = samples.shape[1] // self.size * self.size
        self._rest = samples[:, whole:].copy()
        return self._mix(samples[:, :whole], self.size)

    def flush(self) -> NDArray[np.float32]:
        """What was held back; the sound ends here."""
        rest, self._rest = self._rest, self._rest[:, :0]
        return self._mix(rest, rest.shape[1])

    def _mix(self, samples: NDArray[np.float32], size: int) -> NDArray[np.float32]:
        """Blocks of `size` samples, [channels, blocks * size] -> [blocks * size]."""
        mixed = samples.mean(axis=0)
        if not mixed.size:
            return mixed
        blocks = samples.reshape(len(samples), -1, size)
        with np.errstate(all="ignore"):  # numbers that are none are told of elsewhere
            power = np.einsum("cbn,cbn->bc", blocks, blocks) / size
            left = np.einsum("bn,bn->b", *[mixed.reshape(-1, size)] * 2) / size
            both = power.sum(axis=1)
            loudest = np.maximum.accumulate(np.maximum(both, self._loudest))
            cancels = (left * len(samples) ** 2 < CANCELS * both) & (both >= MATTERS * loudest)
        self._loudest = float(loudest[-1])
        changed = np.flatnonzero(cancels | np.append(self._weights is not self.mean, cancels[:-1]))
        for at in changed:  # only here is it more than a mean
            weights = self.mean
            if cancels[at]:
                # Not always the loudest: between two of nearly equal power it would change in the middle of words.
                if power[at, self._channel] < power[at].max() / 4:
                    self._channel = int(power[at].argmax())
                weights = self.only[self._channel]
            block = samples[:, at * size : (at + 1) * size]
            mixed[at * size : (at + 1) * size] = weights @ block
            if weights is not self._weights:
                n = min(self.fade, size)
                new = np.linspace(0, 1, n, endpoint=False, dtype=np.float32)
                old = self._weights @ block[:, :n]
                mixed[at * size : at * size + n] += (1 - new) * (old - mixed[at * size : at * size + n])
            self._weights = weights
        return mixed
