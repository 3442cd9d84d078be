"""Preference objectives against TRL's: the same log-probabilities give the same losses and gradients."""

from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch

from antiphon.train.objectives.preference import Preference

trl = pytest.importorskip("trl")

TOKENS = torch.tensor([[4, 7, 5], [6, 3, 5]])  # of each answer, chosen ones first


def draws(seed: int) -> torch.Tensor:
    """Log-probabilities of tokens, [6 answers, 7], 0 past each answer's end."""
    logs = -2 * torch.rand(6, 7, generator=torch.Generator().manual_seed(seed))
    return logs * (torch.arange(7) < TOKENS.view(-1, 1))


class Model:
    """What the trainer calls a model; it gives the log-probabilities that it was made with."""

    training = False

    def __init__(self, logs: torch.Tensor) -> None:
        self.logs = logs

    def __call__(self, **inputs):
        zeros = torch.zeros_like(self.logs)
        return SimpleNamespace(log_probs=self.logs, entropy=zeros, mean_logits=zeros, is_top1=zeros.bool())


def of_trl(loss: str, beta: float, logs: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """The loss of TRL's DPOTrainer of answers behind a prompt of one token."""
    from trl.trainer.dpo_trainer import DPOTrainer

    accelerator = SimpleNamespace(device="cpu", gather=lambda x: x, gather_for_metrics=lambda x: x)
    trainer = SimpleNamespace(
        model=Model(logs), accelerator=accelerator, aux_loss_enabled=False, ld_alpha=None, precompute_ref_logps=True,
        f_divergence_type="reverse_kl", loss_types=[loss], loss_weights=[1.0], beta=beta, label_smoothing=0.0,
        use_weighting=False, _metrics=defaultdict(lambda: defaultdict(list)), _total_train_tokens=0,
    )  # fmt: skip
    mask = (torch.arange(8) > 0) & (torch.arange(8) <= TOKENS.view(-1, 1))
    chosen, rejected = reference.sum(1).view(2, 3)
    inputs = {
        "input_ids": torch.zeros(6, 8, dtype=torch.long), "attention_mask": torch.ones(6, 8),
        "completion_mask": mask.long(), "ref_chosen_logps": chosen, "ref_rejected_logps": rejected,
    }  # fmt: skip
    return DPOTrainer._compute_loss(trainer, trainer.model, inputs, False)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("sigmoid", Preference("dpo", beta=0.3)),
        ("sigmoid_norm", Preference("dpo", beta=0.3, average=True)),
        ("ipo", Preference("ipo", beta=0.3)),
    ],
)
def test_losses_and_gradients_are_those_of_trl(theirs, ours):
    logs, reference = draws(0).requires_grad_(), draws(1)
    sums, held = (each.sum(1).view(2, 3) for each in (logs, reference))
    mine = ours.losses(sums, TOKENS.float(), held)["preference"]
    other = of_trl(theirs, 0.3, logs, reference)
    torch.testing.assert_close(mine, other)
    for a, b in zip(*(torch.autograd.grad(loss, logs, retain_graph=True) for loss in (mine, other))):
        torch.testing.assert_close(a, b)


def test_simpo_is_that_of_trl():
    from trl.experimental.cpo.cpo_trainer import CPOTrainer

    chosen, rejected = (draws(0).sum(1).view(2, 3) / TOKENS).unbind()
    accelerator = SimpleNamespace(device="cpu")
    trainer = SimpleNamespace(
        alpha=0.0, accelerator=accelerator, loss_type="simpo", simpo_gamma=0.5, beta=2.0, label_smoothing=0.0
    )
    other = CPOTrainer.cpo_loss(trainer, chosen, rejected)[0].mean()
    mine = Preference("simpo", beta=2.0, gamma=0.5).losses(draws(0).sum(1).view(2, 3), TOKENS.float(), None)
    torch.testing.assert_close(mine["preference"], other)
