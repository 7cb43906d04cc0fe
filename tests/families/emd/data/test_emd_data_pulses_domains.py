"""Rows of pulses are where the thesis has them, never shared, and `--data pulses` names them."""

import itertools
import pickle

import numpy as np
import pytest

from vaesweep.data.domains import Role
from vaesweep.errors import UserError
from vaesweep.families.emd.data.pulses import (
    CONDITIONS,
    SHIFTS,
    TRAINING,
    PulseCondition,
    SplitRows,
    draw_parameters,
    load,
    splits,
)

FEW = SplitRows(train=6, valid=3, test=4)


def refusal(spec: str) -> str:
    with pytest.raises(UserError) as caught:
        load(spec, rows=FEW)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def ends(replicate: int, name: str) -> tuple[int, int]:
    indices = splits(replicate)[name].indices
    assert (np.diff(indices) == 1).all()
    return indices[0], indices[-1] + 1


def test_the_first_replicate_has_the_rows_of_the_thesis() -> None:
    assert ends(1, "pulses.train") == (100_000, 102_048)
    assert ends(1, "pulses.valid") == (102_048, 102_176)
    assert ends(1, "pulses.test") == (102_176, 103_200)
    assert ends(1, next(iter(SHIFTS))) == (103_200, 104_224)
    assert ends(2, "pulses.train") == (200_000, 202_048)


def test_no_index_is_in_two_domains_or_two_replicates() -> None:
    indices = np.concatenate([split.indices for replicate in (1, 2) for split in splits(replicate).values()])
    assert len(np.unique(indices)) == len(indices) == 2 * (2048 + 128 + 1024 * (1 + len(SHIFTS)))


def test_a_condition_has_the_same_rows_whichever_others_are_asked_for() -> None:
    every = splits(3)
    for name in SHIFTS:
        np.testing.assert_array_equal(splits(3, conditions=[name])[name].indices, every[name].indices)


def test_rows_that_reach_the_next_replicate_are_refused() -> None:
    assert splits(1, SplitRows(train=100_000 - 2, valid=1, test=1), conditions=())["pulses.test"].indices == [199_999]
    with pytest.raises(UserError, match=r"up to pulses.test are 100001, but the next replicate begins after 100000"):
        splits(1, SplitRows(train=100_000 - 1, valid=1, test=1), conditions=())
    with pytest.raises(UserError, match=f"up to {list(SHIFTS)[-1]}"):
        splits(1, SplitRows(test=6000))


def test_replicates_begin_at_one() -> None:
    with pytest.raises(UserError, match="replicate 0"):
        splits(0)


def test_the_parts_of_the_training_condition_have_their_roles_and_shifted_ones_are_unseen() -> None:
    data = load("pulses", rows=FEW)
    assert [data.domain(role).name for role in (Role.TRAIN, Role.VALID, Role.TEST)] == [
        f"pulses.{part}" for part in ("train", "valid", "test")
    ]
    assert [domain.name for domain in data.domains if domain.role is Role.UNSEEN] == list(SHIFTS)
    assert [domain.condition for domain in data.domains] == [TRAINING] * 3 + [CONDITIONS[name] for name in SHIFTS]


def test_a_domain_holds_the_parameters_of_its_indices() -> None:
    for domain in load("pulses", replicate=2, rows=FEW).domains:
        assert isinstance(domain.condition, PulseCondition)
        expected = draw_parameters(domain.condition, domain.arrays["indices"])
        np.testing.assert_array_equal(domain.arrays["parameters"], expected)
        assert len(domain) == {"train": 6, "valid": 3}.get(domain.role, 4)


def test_conditions_can_be_chosen() -> None:
    def names(spec: str) -> list[str]:
        return [domain.name for domain in load(spec, rows=FEW).domains][3:]

    assert names("pulses:conditions=sines_4+noise_0") == ["noise_0", "sines_4"]
    assert names("pulses:conditions=none") == []
    assert names(" pulses ") == list(SHIFTS)


def test_data_travel_and_are_known_by_their_fingerprint() -> None:
    data = load("pulses", rows=FEW)
    assert (
        pickle.loads(pickle.dumps(data)).fingerprints()
        == data.fingerprints()
        == load("pulses", rows=FEW).fingerprints()
    )
    others = [
        load("pulses:conditions=none", rows=FEW),
        load("pulses", replicate=2, rows=FEW),
        load("pulses", rows=FEW, training=TRAINING.model_copy(update={"noise_amplitude": 0.4})),
        load("pulses", rows=FEW, training=TRAINING.model_copy(update={"overtone_decay": 0.5})),
    ]
    for one, other in itertools.combinations([data, *others], 2):
        assert one.fingerprints() != other.fingerprints()
    assert others[0].fingerprint() == data.fingerprint(), "shifted conditions are not trained on"
    assert all(other.fingerprint() != data.fingerprint() for other in others[1:])


def test_the_summary_names_every_domain_and_its_rows() -> None:
    summary = load("pulses", rows=FEW).summary
    assert summary[0] == "pulses.train: 6 mixtures, indices 100000 to 100005"
    assert len(summary) == 3 + len(SHIFTS)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("pulse", "unknown kind 'pulse' (did you mean 'pulses'?); use pulses or pulses:conditions="),
        ("", "unknown kind ''"),
        ("pulses:", "unknown option ''"),
        ("pulses:condition=noise_0", "unknown option 'condition' (did you mean 'conditions'?)"),
        ("pulses:conditions=", "unknown condition ''; there are noise_0, "),
        ("pulses:conditions=noise_0+sine_4", "unknown condition 'sine_4' (did you mean 'sines_4'?)"),
        ("pulses:conditions=noise_0+none", "unknown condition 'none'"),
        ("pulses:conditions=noise_0+noise_0", "named twice"),
    ],
)
def test_a_wrong_specification_says_what_would_be_right(spec: str, said: str) -> None:
    assert said in refusal(spec)
