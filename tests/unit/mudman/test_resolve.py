"""From ranges to the numbers of one trial."""

import math

import pytest
from small_spec import SMALL

from mudman.faults import SpecError
from mudman.specs import MudmanSpec, NoUnlearning, parse_as, resolve


class TestResolve:
    SPEC = parse_as(MudmanSpec, {**SMALL["method"], "unlearning_rate": {"low": 0.1, "high": 0.2}})

    def test_fills_every_range(self):
        assert resolve(self.SPEC, {"unlearning_rate": 0.15}).unlearning_rate == 0.15

    def test_chosen_values_may_leave_the_range_but_not_the_bounds(self):
        assert resolve(self.SPEC, {"unlearning_rate": 7}).unlearning_rate == 7
        with pytest.raises(SpecError, match=r"method.unlearning_rate: must be at least 0"):
            resolve(self.SPEC, {"unlearning_rate": -1})

    def test_a_fixed_number_may_be_chosen_too(self):
        assert resolve(self.SPEC, {"unlearning_rate": 0.1, "adversary.decay": 0.2}).adversary.decay == 0.2

    def test_reports_missing_and_unknown_names_together(self):
        with pytest.raises(SpecError) as caught:
            resolve(self.SPEC, {"unlearning": 0.1, "mask": 1.0})
        assert [fault.path for fault in caught.value.faults] == [
            "method.unlearning", "method.mask", "method.unlearning_rate"
        ]  # fmt: skip
        assert "target_modules" not in str(caught.value)

    @pytest.mark.parametrize("value", [math.nan, math.inf, True, "0.1", None])
    def test_refuses_what_is_no_number(self, value):
        with pytest.raises(SpecError, match=r"method\.unlearning_rate: "):
            resolve(self.SPEC, {"unlearning_rate": value})

    def test_no_unlearning_has_no_numbers(self):
        assert resolve(NoUnlearning(type="none"), {}) == NoUnlearning(type="none")
        with pytest.raises(SpecError, match="this method has no numbers"):
            resolve(NoUnlearning(type="none"), {"unlearning_rate": 1.0})
