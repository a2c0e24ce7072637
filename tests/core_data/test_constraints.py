"""Bounds: each can end a trial, says by how much, and unlearning pauses where it is asked to."""

import pytest
from evaluated_models import QUESTIONS, write_questions
from studies import small

import mudman
from mudman.constraint import DIVERGED_VIOLATION, Constraint
from mudman.faults import SpecError
from mudman.preparation import prepare
from mudman.results import Outcome, Point
from mudman.specs import ConstraintSpec

UNTOUCHED = Point(passes=0, forget_loss=3.0, retain_loss=2.0)


def watch(accuracies=(), kls=(), passes=480, accuracy=0.5, **bounds) -> Constraint:
    kl, right = iter(kls), iter(accuracies)
    return Constraint(ConstraintSpec(**bounds), UNTOUCHED, accuracy, passes, lambda: next(kl), lambda: next(right))


def at(passes: int, retain_loss: float = 2.0) -> Point:
    return Point(passes=passes, forget_loss=3.0, retain_loss=retain_loss)


class TestByHand:
    def test_retain_loss(self):
        constraint = watch(retain_loss_increase=0.05)
        assert constraint.violation == -1  # nothing was checked
        assert not constraint.is_over(at(30, 2.04))
        assert constraint.violation == pytest.approx(-0.2)
        assert not constraint.is_over(at(60, 2.01))  # the worst check counts
        assert constraint.violation == pytest.approx(-0.2)
        assert constraint.is_over(at(90, 2.07))
        assert (constraint.violated, constraint.overrun) == ("retain_loss_increase", pytest.approx(0.02))
        assert constraint.violation == pytest.approx(0.4)

    def test_a_bound_itself_is_allowed(self):
        assert not watch(retain_loss_increase=0.5).is_over(at(30, 2.5))
        assert not watch(kl=0.25, kls=[0.25]).is_over(at(30))
        assert not watch(mmlu_floor=0.5, accuracies=[0.5]).is_over(at(120))

    def test_kl(self):
        constraint = watch(kl=0.1, kls=[0.05, 0.3])
        assert not constraint.is_over(at(30))
        assert constraint.violation == pytest.approx(-0.5)
        assert constraint.is_over(at(60))
        assert (constraint.violated, constraint.overrun) == ("kl", pytest.approx(0.2))
        assert constraint.violation == pytest.approx(2)

    def test_a_divergence_without_end_is_as_bad_as_divergence(self):
        constraint = watch(kl=0.1, kls=[None])
        assert constraint.is_over(at(30))
        assert (constraint.violation, constraint.overrun) == (DIVERGED_VIOLATION, None)

    def test_nothing_counts_more_than_divergence(self):
        constraint = watch(retain_loss_increase=0.05)
        assert constraint.is_over(at(30, 2.0 + 0.05 + 79))  # 1580 times the bound
        assert (constraint.violation, constraint.overrun) == (DIVERGED_VIOLATION, pytest.approx(79))

    def test_an_accuracy_that_is_no_number_is_the_worst(self):
        constraint = watch(mmlu_floor=0.25, accuracies=[None])
        assert constraint.is_over(at(120))
        assert (constraint.violated, constraint.violation) == ("mmlu", 1.0)

    def test_accuracy_floor_and_drop(self):
        floor = watch(mmlu_floor=0.4, accuracies=[0.3])
        assert floor.is_over(at(120))
        assert (floor.violated, floor.violation) == ("mmlu", pytest.approx(0.25))
        drop = watch(mmlu_drop=0.1, accuracies=[0.3])  # of .5: .1 beyond the allowed .4
        assert drop.is_over(at(120))
        assert (drop.violated, drop.violation, drop.overrun) == ("mmlu", pytest.approx(1), pytest.approx(0.1))

    def test_a_bound_of_nothing_counts_in_its_own_unit(self):
        assert watch(mmlu_drop=0.0, accuracies=[0.3]).is_over(at(120))
        constraint = watch(retain_loss_increase=0.0)
        assert constraint.is_over(at(30, 2.25))
        assert constraint.violation == pytest.approx(0.25)

    def test_the_worst_of_several_bounds_is_named(self):
        constraint = watch(retain_loss_increase=0.1, kl=0.1, kls=[0.4])
        assert constraint.is_over(at(30, 2.2))  # one unit over, and three
        assert (constraint.violated, constraint.violation) == ("kl", pytest.approx(3))

    def test_accuracy_is_checked_at_its_own_passes_and_at_the_end(self):
        asked = []
        constraint = Constraint(
            ConstraintSpec(mmlu_floor=0.1), UNTOUCHED, 0.5, 500, float, lambda: asked.append(passes) or 0.3
        )
        for passes in (32, 60, 92, 120, 152, 248, 300, 362, 480, 500):
            constraint.is_over(at(passes))
        assert asked == [120, 248, 362, 480, 500]

    def test_pauses_above_its_mark_only(self):
        constraint = watch(retain_loss_increase=0.1, pause_at=0.05)
        assert [constraint.pauses(at(30, loss)) for loss in (2.04, 2.06, 2.04)] == [False, True, False]
        assert not watch(retain_loss_increase=0.1).pauses(at(30, 2.09))


def run(overrides: dict, rate: float = 0.1):
    return mudman.run_trial(small(overrides), {"unlearning_rate": rate})


class TestTrials:
    def test_kl_ends_a_trial_with_its_measurement(self):
        result = run({"constraint": {"retain_loss_increase": None, "kl": 0.01, "check_every": 10}})
        assert result.outcome is Outcome.OVER_RETAIN_BUDGET
        assert (result.violated, result.stopped_at_pass) == ("kl", 10)
        (measured,) = result.measurements
        assert (measured.name, measured.when) == ("kl", "unlearned")
        assert result.overrun == pytest.approx(measured.value - 0.01)
        assert result.violation == pytest.approx(result.overrun / 0.01)
        assert "over the bound kl" in result.log

    def test_accuracy_ends_a_trial(self, tmp_path, monkeypatch):
        monkeypatch.setenv("MUDMAN_DATA_ROOT", str(tmp_path))
        evaluation = {
            "type": "multiple_choice", "questions": write_questions(tmp_path), "measures": "utility", "temperature": 1,
        }  # fmt: skip
        constraint = {"retain_loss_increase": None, "check_every": 5, "mmlu_every": 10, "mmlu_floor": 1.0}
        result = run({"evaluations": [evaluation], "constraint": constraint}, 0.003)
        untouched, now = result.measurements
        assert (untouched.name, untouched.when, untouched.n) == ("./questions", "untouched", len(QUESTIONS))
        assert (now.name, now.when) == ("./questions", "unlearned")
        assert now.value != untouched.value
        assert result.outcome is Outcome.OVER_RETAIN_BUDGET
        assert (result.violated, result.stopped_at_pass) == ("mmlu", 10)
        assert result.violation == result.overrun == pytest.approx(1 - now.value)

    def test_slight_and_wild_excess_differ_and_what_is_allowed_is_below_both(self):
        constraint = {"constraint": {"retain_loss_increase": 0.01, "check_every": 10}}
        allowed, slight, wild = (run(constraint, rate) for rate in (0.0001, 0.03, 0.3))
        assert allowed.outcome is Outcome.VALID
        assert slight.outcome is wild.outcome is Outcome.OVER_RETAIN_BUDGET
        assert allowed.violation < 0 < slight.violation < wild.violation < DIVERGED_VIOLATION

    @pytest.mark.parametrize(("adversary", "per_loop", "unpaused"), [("fork", 5, 10), ("none", 4, 12)])
    def test_a_paused_loop_books_its_passes_and_only_retains(self, adversary, per_loop, unpaused):
        settings = {"method.adversary": {"type": adversary}, "method.retaining_rate": 1e-6}
        constraint = {"retain_loss_increase": 50.0, "check_every": 10}
        paused = run({**settings, "constraint": constraint | {"pause_at": 0.0}}, 0.03)
        free = run({**settings, "constraint": constraint}, 0.03)

        assert paused.outcome is Outcome.VALID
        assert (paused.paused_passes, free.paused_passes) == (20 - unpaused, 0)  # the first check in whole loops
        assert paused.passes_booked == free.passes_booked == 28
        assert paused.passes_made == 8 + unpaused + paused.paused_passes // per_loop * 2
        _, checked, end = paused.unlearning.forget_loss
        assert checked == free.unlearning.forget_loss[1]
        # Nothing was unlearned after that check, and next to nothing retained at that rate.
        assert end == pytest.approx(checked, abs=1e-4)
        assert abs(free.unlearning.forget_loss[2] - checked) > 0.01

    def test_unlearning_goes_on_when_the_loss_is_back(self):
        # At this retaining rate the paused loops bring the retain loss back below the mark.
        constraint = {"retain_loss_increase": 50.0, "pause_at": 0.0, "check_every": 10}
        result = run({"constraint": constraint, "budget.unlearn_passes": 100, "method.retaining_rate": 0.3}, 0.01)
        marks = [loss > result.unlearning.retain_loss[0] for loss in result.unlearning.retain_loss[1:-1]]
        assert result.paused_passes == 10 * sum(marks)


class TestMoments:
    EVALUATIONS = {"evaluations": ["kl", {"type": "cloze", "limit": 12}]}

    def test_each_evaluation_is_measured_at_three_moments(self):
        result = run(self.EVALUATIONS, 0.003)
        moments = ("untouched", "unlearned", "attacked")
        assert [(m.when, m.name) for m in result.measurements] == [
            (when, name) for when in moments for name in ("kl", "gene-ontology-cloze")
        ]
        kl = [m.value for m in result.measurements if m.name == "kl"]
        assert kl[0] == 0 < kl[1] != kl[2]

    def test_accuracy_as_the_objective(self):
        objective = {"metric": "cloze_accuracy", "direction": "minimize", "reduce": "final"}
        result = run({**self.EVALUATIONS, "objective": objective}, 0.003)
        assert result.value == result.measurements[-1].value

    def test_token_losses_average_to_the_curve(self):
        result = run({"record": {"token_losses": True, "trace": True}}, 0.003)
        ends = {
            "untouched": result.unlearning.forget_loss[0],
            "unlearned": result.unlearning.forget_loss[-1],
            "attacked": result.relearning.forget_loss[-1],
        }
        assert result.token_losses.keys() == ends.keys()
        for when, expected in ends.items():
            tokens = [loss for sequence in result.token_losses[when] for loss in sequence]
            assert len(tokens) == 2 * 15
            assert sum(tokens) / len(tokens) == pytest.approx(expected, rel=1e-5)
        assert result.trace.loop == (0, 1, 2, 3)
        assert run({}, 0.003).token_losses is None

    def test_preparation_measures_the_baseline_and_finds_what_cannot_be_had(self):
        preparation = prepare(small(self.EVALUATIONS))
        kl, cloze = (
            {m.when: m.value for m in preparation.baseline.measurements if m.name == name}
            for name in ("kl", "gene-ontology-cloze")
        )
        assert kl["untouched"] == kl["unlearned"] == 0 < kl["attacked"]
        assert cloze["untouched"] == cloze["unlearned"]
        assert preparation.corpora["forget"]["tokens_sha256"]

        missing = {"type": "multiple_choice", "questions": "./nowhere", "measures": "utility"}
        other = missing | {"questions": "./nor-there"}
        with pytest.raises(SpecError) as refused:
            prepare(small({"evaluations": ["kl", missing, other]}))
        assert [fault.path for fault in refused.value.faults] == ["evaluations.1.questions", "evaluations.2.questions"]
