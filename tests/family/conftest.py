"""What the tests over every registered family share."""

import pytest

from vaesweep.data.domains import DataSet
from vaesweep.family import Family, family, family_names


@pytest.fixture(scope="module", params=family_names())
def subject(request: pytest.FixtureRequest) -> Family:
    """Each registered family."""
    return family(request.param)


@pytest.fixture(scope="module")
def data(subject: Family) -> DataSet:
    """A small data set of the family's own making."""
    return subject.example()
