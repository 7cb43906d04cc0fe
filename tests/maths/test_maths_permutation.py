"""The best assignment is the best of all, by brute force and by scipy, whatever the order of the sources."""

from itertools import permutations

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from vaesweep.likelihoods import cauchy_nll, si_sdr
from vaesweep.permutation import best_assignment, pairwise

COUNTS = [1, 2, 3, 4, 5, 6]


def losses(sources: int, *batch: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*batch, sources, sources, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("sources", COUNTS)
def test_it_is_the_best_of_all_permutations(sources: int) -> None:
    for one in losses(sources, 20):
        brute = min(sum(float(one[i, j]) for i, j in enumerate(order)) for order in permutations(range(sources)))
        assert float(best_assignment(one).loss) == pytest.approx(brute, abs=1e-12)


@pytest.mark.parametrize("sources", COUNTS)
def test_its_order_is_that_of_scipy(sources: int) -> None:
    batch = losses(sources, 4, 5)
    order, loss = best_assignment(batch)
    assert order.shape == (4, 5, sources)
    assert loss.shape == (4, 5)
    for one, found in zip(batch.flatten(0, 1), order.flatten(0, 1), strict=True):
        assert found.tolist() == linear_sum_assignment(one.numpy())[1].tolist()


@pytest.mark.parametrize("sources", COUNTS)
def test_permuted_estimates_permute_the_order_and_leave_the_loss(sources: int) -> None:
    one, shuffle = losses(sources), torch.randperm(sources, generator=torch.Generator().manual_seed(1))
    plain, moved = best_assignment(one), best_assignment(one[:, shuffle])
    assert torch.equal(shuffle[moved.order], plain.order)
    torch.testing.assert_close(moved.loss, plain.loss)


@pytest.mark.parametrize("sources", COUNTS)
def test_shuffled_sources_are_found_again(sources: int) -> None:
    generator = torch.Generator().manual_seed(2)
    targets = torch.randn(3, sources, 500, generator=generator)
    shuffle = torch.randperm(sources, generator=generator)
    found = best_assignment(pairwise(lambda s, e: -si_sdr(s, e), targets, 7 * targets[:, shuffle])).order
    assert torch.equal(shuffle[found], torch.arange(sources).expand(3, sources))


@pytest.mark.parametrize("sources", [2, 3, 4])
def test_of_equal_assignments_the_first_is_taken(sources: int) -> None:
    order, loss = best_assignment(torch.ones(2, sources, sources))
    assert torch.equal(order, torch.arange(sources).expand(2, sources))
    assert torch.equal(loss, torch.full((2,), float(sources)))


@pytest.mark.parametrize("sources", COUNTS)
def test_a_nan_never_wins_and_never_hides(sources: int) -> None:
    batch = losses(sources, 3)
    batch[1, 0, sources - 1] = torch.nan
    assert best_assignment(batch).loss.isnan().tolist() == [False, True, False]


@pytest.mark.parametrize("sources", [2, 4, 5])
def test_an_infinite_pair_is_avoided(sources: int) -> None:
    one = torch.full((sources, sources), 3.0) + torch.eye(sources).flip(0)
    one[0, 0] = torch.inf
    assert float(best_assignment(one).loss) < torch.inf


@pytest.mark.parametrize("sources", COUNTS)
def test_the_gradient_is_one_for_the_chosen_pairs_and_zero_for_the_others(sources: int) -> None:
    batch = losses(sources, 3).requires_grad_()
    order, loss = best_assignment(batch)
    (gradient,) = torch.autograd.grad(loss.sum(), batch)
    assert torch.equal(gradient, torch.nn.functional.one_hot(order, sources).double())


@pytest.mark.parametrize("sources", COUNTS)
def test_mapped_over_cells_it_is_a_loop_over_cells(sources: int) -> None:
    batch = losses(sources, 3, 4).requires_grad_()
    mapped = torch.vmap(best_assignment, in_dims=1)(batch.movedim(0, 1))
    looped = [best_assignment(one) for one in batch]
    assert torch.equal(mapped.order, torch.stack([one.order for one in looped]))
    torch.testing.assert_close(mapped.loss, torch.stack([one.loss for one in looped]))
    assert torch.autograd.grad(mapped.loss.sum(), batch)[0].sum() == 12 * sources


def test_pairs_are_a_row_a_target_and_a_column_an_estimate() -> None:
    targets, location = torch.randn(2, 2, 3, 10, generator=torch.Generator().manual_seed(3))
    log_scale = 0.1 * location
    pairs = pairwise(cauchy_nll, targets, location, log_scale)
    assert pairs.shape == (2, 3, 3)
    for i in range(3):
        for j in range(3):
            exact = cauchy_nll(targets[:, i], location[:, j], log_scale[:, j])
            torch.testing.assert_close(pairs[:, i, j], exact)


@pytest.mark.parametrize("shape", [(3,), (2, 3), (4, 3, 2)])
def test_what_is_not_square_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="a row a target"):
        best_assignment(torch.zeros(shape))


@pytest.mark.parametrize("sources", [2, 4, 5, 6])
def test_compiled_and_mapped_it_is_what_it_is(sources: int) -> None:
    """Forward and gradient, in one graph whatever the number of sources."""
    losses = torch.randn(3, 7, sources, sources, generator=torch.Generator().manual_seed(0))

    def total(losses: Tensor) -> Tensor:
        return best_assignment(losses).loss.sum()

    mapped = torch.func.vmap(torch.func.grad(total))
    compiled = torch.compile(mapped, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(losses), mapped(losses), rtol=0, atol=0)
    loop = torch.stack([torch.func.grad(total)(one) for one in losses])
    torch.testing.assert_close(mapped(losses), loop, rtol=0, atol=0)
