"""What counts as the same number."""

import pytest

from service.agreement import agree


@pytest.mark.parametrize(("stated", "computed", "same"), [
    (0.1 + 0.2, 0.3, True),
    (3, 3.0, True),
    (1.0, 1.0 + 1e-8, False),
    (2**32 - 1, 2**32 - 2, False),
    (0.0, None, False),
    ("valid", "valid", True),
])  # fmt: skip
def test_floats_may_round_and_whole_numbers_may_not(stated, computed, same):
    assert agree(stated, computed) is same
