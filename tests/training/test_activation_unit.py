"""The folded activation unit against its definition, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from din_infer import semantics
from din_infer.semantics import ACTIVATIONS, DICE_EPS, NORMALIZATIONS
from din_infer.semantics import TRAINING_INTERACTIONS as INTERACTIONS
from din_infer.training.activation_unit import ActivationUnit, Part, naive_user_interest
from din_infer.training.activations import Dice

D = 5


def make_unit(activation: str, hidden: tuple[int, ...] = (7, 3), **options: object) -> ActivationUnit:
    eps = DICE_EPS if activation == "dice" else None
    spec = semantics.ActivationUnit(hidden, activation, eps, **options)  # type: ignore[arg-type]
    unit = ActivationUnit(D, spec).double()
    for name, value in unit.named_parameters():
        if name.endswith("alpha"):
            torch.nn.init.uniform_(value, -0.5, 0.9)
    return unit


def make_batch() -> tuple[Tensor, Tensor, Tensor]:
    """Six candidates; the histories have 0 to 9 behaviours of 9, and what is behind them is poison."""
    lengths = torch.tensor([9, 0, 4, 1, 7, 2])
    valid = torch.arange(9) < lengths.unsqueeze(1)
    keys = torch.randn(6, 9, D, dtype=torch.float64)
    return keys.masked_fill(~valid.unsqueeze(-1), 0.0), valid, torch.randn(6, D, dtype=torch.float64)


def folded(unit: ActivationUnit, keys: Tensor, valid: Tensor, queries: Tensor) -> Tensor:
    """The user interest [N, D] of queries [N, D] with histories [N, T, D] of their own."""
    (interest,) = unit(Part(keys, valid, queries.unsqueeze(1)))
    return interest.squeeze(1)


def outputs_and_gradients(unit: ActivationUnit, naive: bool) -> list[Tensor]:
    torch.manual_seed(3)
    keys, valid, queries = make_batch()
    keys.requires_grad_()
    queries.requires_grad_()
    unit.zero_grad()
    interest = naive_user_interest(unit, keys, valid, queries) if naive else folded(unit, keys, valid, queries)
    (interest * torch.randn_like(interest)).sum().backward()
    gradients = [p.grad for p in unit.parameters()]
    return [g for g in (interest.detach(), keys.grad, queries.grad, *gradients) if g is not None]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("interaction", INTERACTIONS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_fold_equals_the_definition(interaction: str, activation: str, training: bool) -> None:
    torch.manual_seed(0)
    unit = make_unit(activation, interaction=interaction).train(training)
    fast, naive = outputs_and_gradients(unit, naive=False), outputs_and_gradients(unit, naive=True)
    assert len(fast) == 3 + len(list(unit.parameters()))
    for a, b in zip(fast, naive, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


@pytest.mark.parametrize("normalize", NORMALIZATIONS)
@pytest.mark.parametrize("scale", [None, 0.0, 0.3, -2.0])
@pytest.mark.parametrize("hidden", [(), (6,), (6, 5, 4, 3)])
@pytest.mark.parametrize("interaction", INTERACTIONS)
def test_fold_equals_the_definition_in_all_shapes(
    interaction: str, hidden: tuple[int, ...], scale: float | None, normalize: str
) -> None:
    torch.manual_seed(0)
    unit = make_unit("prelu", hidden, interaction=interaction, scale=scale, normalize=normalize)
    fast, naive = outputs_and_gradients(unit, naive=False), outputs_and_gradients(unit, naive=True)
    for a, b in zip(fast, naive, strict=True):
        assert torch.isfinite(a).all()
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


@pytest.mark.parametrize("normalize", NORMALIZATIONS)
@pytest.mark.parametrize("interaction", INTERACTIONS)
def test_one_pair_by_hand(interaction: str, normalize: str) -> None:
    torch.manual_seed(0)
    unit = make_unit("tanh", (3,), interaction=interaction, scale=2.0, normalize=normalize)
    k, q = torch.randn(2, D, dtype=torch.float64)
    outer = torch.tensor([k[i] * q[j] for i in range(D) for j in range(D)])
    inputs = {"outer": [k, q, outer], "hadamard": [q, k, q - k, q * k], "none": [k, q]}
    x = torch.cat(inputs[interaction])
    values = dict(unit.layers.named_values())
    h = torch.tanh(values["weights.0"] @ x + values["biases.0"])
    a = (values["weights.1"] @ h + values["biases.1"]) * 2.0
    expected = k if normalize == "softmax" else a * k
    got = folded(unit, k.view(1, 1, D), torch.ones(1, 1, dtype=torch.bool), q.view(1, D))
    torch.testing.assert_close(got[0], expected, rtol=0, atol=1e-12)


def test_no_behaviour_no_interest() -> None:
    for normalize in NORMALIZATIONS:
        unit = make_unit("dice", normalize=normalize)
        valid = torch.zeros(2, 0, dtype=torch.bool)
        keys, queries = torch.zeros(2, 0, D, dtype=torch.float64), torch.randn(2, D, dtype=torch.float64)
        assert torch.equal(folded(unit, keys, valid, queries), torch.zeros(2, D, dtype=torch.float64))


def test_dice_is_equation_3_over_the_rows_that_it_is_given() -> None:
    torch.manual_seed(0)
    dice = Dice(4, DICE_EPS).double()
    torch.nn.init.uniform_(dice.alpha, -1, 1)
    s = torch.randn(50, 4, dtype=torch.float64) * 3 + 1
    mean, var = s.mean(0), ((s - s.mean(0)) ** 2).mean(0)
    p = 1 / (1 + torch.exp(-(s - mean) / torch.sqrt(var + 1e-8)))
    torch.testing.assert_close(dice(s), p * s + (1 - p) * dice.alpha * s)
    torch.testing.assert_close(dice.mean, 0.1 * mean)
    torch.testing.assert_close(dice.var, 0.9 + 0.1 * var)
    dice.eval()
    p = 1 / (1 + torch.exp(-(s - dice.mean) / torch.sqrt(dice.var + 1e-8)))
    torch.testing.assert_close(dice(s), p * s + (1 - p) * dice.alpha * s)


def test_padding_does_not_reach_dices_statistics() -> None:
    torch.manual_seed(0)
    keys, valid, queries = make_batch()
    units = [make_unit("dice"), make_unit("dice")]
    units[1].load_state_dict(units[0].state_dict())
    padding = torch.zeros(6, 20, D, dtype=torch.float64)
    folded(units[0], keys, valid, queries)
    longer = torch.cat([keys, padding], 1), torch.cat([valid, torch.zeros(6, 20, dtype=torch.bool)], 1)
    folded(units[1], *longer, queries)
    for name, value in units[0].state_dict().items():
        torch.testing.assert_close(units[1].state_dict()[name], value)


def test_dice_without_rows_keeps_its_averages() -> None:
    dice = Dice(3, DICE_EPS)
    assert dice(torch.zeros(0, 3)).shape == (0, 3)
    assert torch.equal(dice.mean, torch.zeros(3))
    assert torch.equal(dice.var, torch.ones(3))
