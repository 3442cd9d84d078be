"""Preference objectives: of two answers to one prompt, the better is to become likelier than the worse.

Each takes log-probabilities of whole answers, [pairs], and gives a loss for each:

- `dpo` (Rafailov et al. 2023, equation 7; label smoothing as in cDPO, Mitchell 2023),
- `ipo` (Azar et al. 2023, equation 17), on log-probabilities per token,
- `simpo` (Meng et al. 2024, equation 6), on log-probabilities per token and without a reference model,
- `kto` (Ethayarajh et al. 2024, equation 8), whose answers need no partner.

A reference model's log-probabilities are those of the weights that training starts from, made once
(`antiphon.train.objectives.reference`); without one they are zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from antiphon.errors import ConfigError

OBJECTIVES = ("dpo", "ipo", "simpo", "kto")


def dpo(
    chosen: Tensor, rejected: Tensor, reference_chosen: Tensor, reference_rejected: Tensor, beta: float = 0.1,
    smoothing: float = 0.0,
) -> Tensor:  # fmt: skip
    """-log sigmoid of beta times how much further apart the sides are than in the reference model.

    Args:
        chosen, rejected: log-probabilities (nats) of the better and the worse answer, [pairs].
        reference_chosen, reference_rejected: the same by the reference model.
        beta: how firmly the reference is held on to; larger is firmer.
        smoothing: share of pairs whose sides are thought to be the wrong way round.
    """
    margin = beta * ((chosen - reference_chosen) - (rejected - reference_rejected))
    return -(1 - smoothing) * F.logsigmoid(margin) - smoothing * F.logsigmoid(-margin)


def ipo(
    chosen: Tensor, rejected: Tensor, reference_chosen: Tensor, reference_rejected: Tensor, beta: float = 0.1
) -> Tensor:
    """Squared distance of the sides' difference against the reference from 1 / (2 beta): it doesn't grow for ever."""
    return ((chosen - reference_chosen) - (rejected - reference_rejected) - 1 / (2 * beta)).square()


def simpo(chosen: Tensor, rejected: Tensor, beta: float = 2.0, gamma: float = 1.0) -> Tensor:
    """-log sigmoid of beta times the sides' difference, less gamma: how far apart they are to be."""
    return -F.logsigmoid(beta * (chosen - rejected) - gamma)


def kto(
    answers: Tensor, reference: Tensor, good: Tensor, beta: float = 0.1, divergence: Tensor | float = 0.0
) -> Tensor:
    """One minus how much an answer gained if it is good, or lost if it is bad, squashed.

    Args:
        answers, reference: log-probabilities of answers, each good or bad, [answers].
        good: which they are, bool [answers].
        beta: as in `dpo`.
        divergence: of the model from the reference, in nats an answer, 0 or more and without gradient: what an answer
            must gain to count as gaining.
    """
    gained = beta * (answers - reference - divergence)
    return 1 - torch.where(good, gained, -gained).sigmoid()


@dataclass
class Preference:
    """Which objective, and how firmly."""

    loss: str = "dpo"
    """"dpo", "ipo", "simpo" or "kto"."""
    beta: float = 0.1
    """How firmly the reference is held on to; for simpo the scale of the difference."""
    gamma: float = 1.0
    """Of simpo: how far apart the sides are to be."""
    smoothing: float = 0.0
    """Of dpo: share of pairs whose sides are thought to be the wrong way round."""
    average: bool | None = None
    """Log-probabilities per token instead of per answer, so that length doesn't count; None does as the objective's
    authors do: ipo and simpo per token, dpo and kto per answer."""
    reference: bool = True
    """Whether the model that training starts from is held on to; simpo never does."""

    def __post_init__(self) -> None:
        if self.loss not in OBJECTIVES:
            raise ConfigError(f"preference.loss is {self.loss!r}; choose {', '.join(OBJECTIVES)}")
        if self.beta <= 0 or not 0 <= self.smoothing < 0.5:
            raise ConfigError(
                f"preference.beta is {self.beta} and smoothing {self.smoothing}; above 0, and 0 to 0.5, are needed"
            )

    @property
    def needs_reference(self) -> bool:
        return self.reference and self.loss != "simpo"

    def losses(self, answers: Tensor, tokens: Tensor, reference: Tensor | None) -> dict[str, Tensor]:
        """The loss of a batch of pairs, and what it does.

        Args:
            answers: log-probabilities [2, pairs], the chosen ones first.
            tokens: how many tokens (or their weight) each answer has, [2, pairs].
            reference: log-probabilities by the reference model [2, pairs]; None without one.

        Returns:
            `preference`, the loss; detached `preferred`, the share of pairs whose better side gained more, and
            `margin`, by how many nats (a token, where it is averaged).
        """
        held = torch.zeros_like(answers) if reference is None or not self.needs_reference else reference
        average = self.loss in ("ipo", "simpo") if self.average is None else self.average
        if average:
            answers, held = answers / tokens, held / tokens
        if self.loss == "dpo":
            each = dpo(*answers, *held, self.beta, self.smoothing)
        elif self.loss == "ipo":
            each = ipo(*answers, *held, self.beta)
        elif self.loss == "simpo":
            each = simpo(*answers, self.beta, self.gamma)
        else:  # the batch's own mean gain stands for the divergence: no answers to other prompts are needed
            good = torch.tensor([[True], [False]], device=answers.device).expand_as(answers)
            each = kto(answers, held, good, self.beta, (answers - held).detach().mean().clamp_min(0))
        gained = (answers - held).detach()
        margin = gained[0] - gained[1]
        return {"preference": each.mean(), "preferred": (margin > 0).float().mean(), "margin": margin.mean()}


def answer_log_probabilities(
    scores: Tensor, targets: Tensor, weights: Tensor, rows: Tensor, count: int
) -> tuple[Tensor, Tensor]:
    """Log-probabilities of answers from the logits of their tokens, however those lie.

    Args:
        scores: logits [tokens, vocabulary].
        targets: what was drawn [tokens]; -1 where there is nothing.
        weights: of each token [tokens]; 0 leaves it out.
        rows: which answer each token belongs to [tokens].
        count: how many answers there are.

    Returns:
        weighted sums of log-probabilities, nats, and of weights, [count] both.
    """
    weights = weights * (targets >= 0)
    logs = -F.cross_entropy(scores.float(), targets.clamp_min(0), reduction="none")
    zeros = torch.zeros(count, device=scores.device)
    return zeros.index_add(0, rows, logs * weights), zeros.index_add(0, rows, weights.float())
