"""Whole trials on the packaged models: reproducible, independent of each other, and every end is data."""

import weakref

import pytest
import torch
from studies import NEOX, small

import mudman
from mudman.bench import bench_for
from mudman.faults import SpecError
from mudman.preparation import prepare
from mudman.registry import source_faults
from mudman.results import Curve, Decision, Outcome, Progress, TrialResult

RATE = {"unlearning_rate": 0.003}


def numbers(result: TrialResult) -> dict:
    """All that is measured on the model."""
    return result.model_dump(exclude={"seconds", "log"})


def run(overrides: dict | None = None, values: dict | None = None, report=None) -> TrialResult:
    return mudman.run_trial(small(overrides), RATE if values is None else values, report)


@pytest.mark.parametrize("overrides", [{}, NEOX], ids=["llama", "neox"])
def test_a_trial_unlearns_is_attacked_and_repeats_exactly(overrides):
    first = run(overrides)
    other = run(overrides, {"unlearning_rate": 0.1})
    again = run(overrides)

    assert first.outcome is Outcome.VALID
    assert numbers(again) == numbers(first)  # whatever another trial did to the weights in between
    assert numbers(other) != numbers(first)
    assert first.unlearning.passes == (0, 10, 20)
    assert first.relearning.passes == (0, 4, 8)
    assert first.unlearning.forget_loss[0] < 6  # a trained model; a uniform guess costs ln 4096 = 8.3
    assert first.forget_loss_unlearned == first.unlearning.forget_loss[-1] == first.relearning.forget_loss[0]
    assert first.retain_loss_unlearned == first.unlearning.retain_loss[-1]
    assert first.retain_loss_final == first.relearning.retain_loss[-1]
    assert first.violation < 0
    assert first.overrun is None
    assert first.stopped_at_pass is None
    assert first.device == "cpu"
    assert first.fault is None
    assert TrialResult.model_validate_json(first.model_dump_json()) == first


def test_unlearning_raises_the_forget_loss_and_the_attack_lowers_it():
    result = run({"budget.unlearn_passes": 50, "attack.rate": 0.1}, {"unlearning_rate": 0.01})

    assert result.forget_loss_unlearned > result.unlearning.forget_loss[0] + 0.05
    assert result.forget_loss_final < result.forget_loss_unlearned


def test_the_objective_is_the_minimum_or_the_end_of_the_attack():
    # At this rate the attack overshoots: its minimum is not at its end, nor before its first step.
    rough = {"attack.rate": 0.8, "attack.passes": 16, "attack.check_every": 2}
    minimum = run(rough)
    final = run({**rough, "objective": {"reduce": "final"}})

    checks = minimum.relearning.forget_loss[1:]
    assert len(checks) == 8
    assert minimum.value == minimum.forget_loss_min == min(checks)
    assert final.value == final.forget_loss_final == checks[-1]
    assert min(checks) < checks[-1]


def test_without_unlearning_the_attack_starts_at_the_untouched_model():
    baseline = run({"method": {"type": "none"}}, {})
    unlearned = run()

    assert baseline.outcome is Outcome.VALID
    assert baseline.unlearning.passes == (0,)
    assert baseline.unlearning.forget_loss == unlearned.unlearning.forget_loss[:1]
    assert baseline.relearning.forget_loss[0] == baseline.unlearning.forget_loss[0]
    assert (baseline.passes_booked, baseline.passes_made) == (8, 8)


@pytest.mark.parametrize(
    ("method", "passes", "made"),
    [
        ({"adversary": {"gradient": "hybrid"}}, 20, 20),
        ({"adversary": {"gradient": "fresh"}}, 20, 24),  # one more forward in each of four loops
        ({"adversary": {"gradient": "reuse"}}, 20, 16),  # one backward serves both
        ({"adversary": {"gradient": "reuse"}, "loss": "neg_entropy"}, 20, 20),
        ({"adversary": {"type": "none"}}, 20, 20),
    ],
)
def test_passes_are_booked_as_published_and_counted_as_made(method, passes, made):
    result = run({"method": method, "budget.unlearn_passes": passes})

    assert (result.passes_booked, result.passes_made) == (passes + 8, made + 8)


def test_retain_steps_in_the_attack_are_booked():
    result = run({"attack": {"retain": True, "passes": 8}})
    assert (result.passes_booked, result.passes_made) == (28, 28)


def test_other_seeds_give_other_data():
    assert run({"seeds.data": 7}).unlearning.forget_loss[0] != run().unlearning.forget_loss[0]


def test_fixed_numbers_need_no_hyperparameters():
    assert numbers(run({"method.unlearning_rate": 0.003}, {})) == numbers(run())


def test_an_attack_may_have_texts_of_its_own():
    other = {"attack.texts": {"corpus": "gene-ontology"}}
    own, plain = run(other), run()
    assert own.unlearning == plain.unlearning
    assert own.relearning.forget_loss[0] == plain.relearning.forget_loss[0]  # still measured on the forget corpus
    assert own.relearning.forget_loss[1:] != plain.relearning.forget_loss[1:]

    corpora = prepare(small(other)).corpora
    assert set(corpora) == {"forget", "retain", "attack"}
    assert len({corpus["tokens_sha256"] for corpus in corpora.values()}) == 3


def test_unknown_texts_of_the_attack_are_named():
    faults = source_faults(small({"attack.texts": {"corpus": "gene-ontologie"}}))
    assert [fault.path for fault in faults] == ["attack.texts.corpus"]
    with pytest.raises(SpecError, match=r"^attack\.texts\.corpus: gene-ontology is too short"):
        run({"attack": {"rate": 0.01, "passes": 2000, "texts": {"corpus": "gene-ontology"}}})


class TestEnds:
    def test_below_the_pruners_cut(self):
        whole = run()
        at_4, at_8 = whole.relearning.forget_loss[1:]
        on_the_cut = mudman.run_trial(small(), RATE, cuts={4: at_4})
        assert numbers(on_the_cut) == numbers(whole)

        pruned = mudman.run_trial(small(), RATE, cuts={4: at_4 + 1e-6, 8: at_8 + 1})
        assert pruned.outcome is Outcome.PRUNED
        assert (pruned.value, pruned.judged, pruned.pruned_below) == (None, at_4, at_4 + 1e-6)
        assert (pruned.stopped_at_pass, pruned.passes_booked, pruned.passes_skipped) == (24, 24, 4)
        assert pruned.relearning.passes == (0, 4)
        assert pruned.unlearning == whole.unlearning
        assert pruned.violation == whole.violation
        assert "below the pruner's cut" in pruned.log

    def test_over_the_retain_budget(self):
        result = run({"constraint": {"retain_loss_increase": 0.01, "check_every": 10}}, {"unlearning_rate": 0.2})

        untouched, stopped = result.unlearning.retain_loss[0], result.unlearning.retain_loss[-1]
        assert result.outcome is Outcome.OVER_RETAIN_BUDGET
        assert result.stopped_at_pass == result.passes_booked == 10
        assert result.overrun == pytest.approx(stopped - untouched - 0.01)
        assert result.violation == pytest.approx(result.overrun / 0.01)
        assert result.value is None
        assert result.relearning.passes == ()

    def test_a_budget_of_nothing_is_a_budget(self):
        result = run({"constraint": {"retain_loss_increase": 0}}, {"unlearning_rate": 0.2})
        assert result.outcome is Outcome.OVER_RETAIN_BUDGET
        assert result.violation == pytest.approx(result.overrun)

    def test_without_a_constraint_nothing_is_over(self):
        result = run({"constraint": None}, {"unlearning_rate": 0.2})
        assert result.outcome is Outcome.VALID
        assert result.violation is None

    def test_diverged(self):
        result = run(values={"unlearning_rate": 1e38})

        assert result.outcome is Outcome.DIVERGED
        assert result.value is None
        assert 0 < result.violation < 1e6
        assert result.stopped_at_pass == 10
        assert result.unlearning.forget_loss[-1] is None or result.unlearning.retain_loss[-1] is None
        assert "NaN" not in result.model_dump_json()

    def test_weights_beyond_measure_are_diverged_even_where_the_loss_is_finite(self):
        result = run(values={"unlearning_rate": 1e30})  # normalisation layers hide it; the norm is no float32
        assert result.outcome is Outcome.DIVERGED

    def test_diverged_under_attack(self):
        result = run({"attack.rate": 1e30})
        assert result.outcome is Outcome.DIVERGED
        assert result.unlearning.passes == (0, 10, 20)

    @pytest.mark.parametrize("after", [1, 7, 20, 23])
    def test_an_order_to_stop_is_followed_before_the_next_pass(self, after):
        seen = []

        def report(progress: Progress) -> Decision:
            if progress.point is None:
                seen.append(progress)
            return Decision.STOP if len(seen) >= after else Decision.CONTINUE

        result = run(report=report)
        assert result.outcome is Outcome.CANCELLED
        assert len(seen) == after
        assert result.value is None
        assert "stopped by order" in result.log

    @pytest.mark.parametrize("error", [ZeroDivisionError(), MemoryError(), None], ids=["error", "memory", "stop"])
    @pytest.mark.parametrize(
        ("after", "unlearning", "relearning"), [(3, (0,), ()), (17, (0, 10), ()), (26, (0, 10, 20), (0, 4))]
    )
    def test_a_trial_that_ends_early_keeps_what_was_seen(self, error, after, unlearning, relearning):
        whole, seen = run(), []

        def report(progress: Progress) -> Decision:
            seen.extend([progress] if progress.point is None else [])
            if len(seen) == after and error is not None:
                raise error
            return Decision.STOP if len(seen) == after else Decision.CONTINUE

        result = run(report=report)
        assert (result.passes_booked, result.passes_made) == (after, after)
        assert (result.unlearning.passes, result.relearning.passes) == (unlearning, relearning)
        for curve, full in ((result.unlearning, whole.unlearning), (result.relearning, whole.relearning)):
            assert curve.forget_loss == full.forget_loss[: len(curve.passes)]
            assert curve.retain_loss == full.retain_loss[: len(curve.passes)]
        assert result.forget_loss_unlearned == result.unlearning.forget_loss[-1]
        assert result.retain_loss_unlearned == result.unlearning.retain_loss[-1]
        assert (result.value, result.stopped_at_pass, result.violation) == (None, None, None)

    def test_an_exception_is_data_with_its_traceback(self):
        def report(progress: Progress) -> Decision:
            raise ZeroDivisionError("in the middle of a pass")

        result = run(report=report)
        assert result.outcome is Outcome.ERROR
        assert (result.fault.type, result.fault.message) == ("ZeroDivisionError", "in the middle of a pass")
        assert "test_trial.py" in result.fault.traceback

    @pytest.mark.parametrize(
        "error",
        [
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
            MemoryError("no more"),
            RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
        ],
    )
    def test_lack_of_memory_is_an_outcome_of_its_own(self, error):
        def report(progress: Progress) -> Decision:
            raise error

        result = run(report=report)
        assert result.outcome is Outcome.OUT_OF_MEMORY
        assert result.fault.message == str(error)

    def test_what_a_trial_held_of_a_card_goes_back_to_those_who_share_it(self, monkeypatch):
        held, given_back = [], []
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
        monkeypatch.setattr(torch.cuda, "empty_cache", lambda: given_back.append([each() for each in held]))

        def report(progress: Progress) -> Decision:
            large = torch.zeros(5)
            held.append(weakref.ref(large))
            raise torch.OutOfMemoryError("CUDA out of memory")

        run(report=report)
        assert given_back == [[None]], "once, and when nothing is held any more"

    def test_so_does_what_a_model_held_that_gives_way_to_another(self, monkeypatch):
        given_back, first = [], weakref.ref(bench_for(small({"model.dtype": "bfloat16"})).model)
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
        monkeypatch.setattr(torch.cuda, "empty_cache", lambda: given_back.append(first()))
        bench_for(small(NEOX))
        assert given_back == [None]

    def test_more_memory_than_there_is(self):
        # Four hundred terabytes are asked of torch, which refuses in its own words.
        def report(progress: Progress) -> Decision:
            torch.empty(10**14)
            return Decision.CONTINUE

        assert run(report=report).outcome is Outcome.OUT_OF_MEMORY

    def test_after_any_end_the_next_trial_is_as_ever(self):
        before = run()
        run(values={"unlearning_rate": 1e38})
        after_divergence = run()
        run(report=lambda progress: Decision.STOP if progress.passes == 13 else Decision.CONTINUE)
        after_stop = run()
        assert numbers(before) == numbers(after_divergence) == numbers(after_stop)


class TestProgress:
    def test_counts_every_pass_of_both_phases_in_order(self):
        seen: list[Progress] = []
        run(report=lambda progress: seen.append(progress) or Decision.CONTINUE)

        for phase, of in (("unlearn", 20), ("relearn", 8)):
            steps = [p for p in seen if p.phase == phase]
            assert {p.of for p in steps} == {of}
            assert [p.passes for p in steps if p.point is None] == list(range(1, of + 1))
            assert [p.passes for p in steps] == sorted(p.passes for p in steps)
        assert [p.phase for p in seen] == sorted((p.phase for p in seen), reverse=True)

    def test_shows_the_points_of_the_curves(self):
        seen: list[Progress] = []
        result = run(report=lambda progress: seen.append(progress) or Decision.CONTINUE)

        for phase, curve in (("unlearn", result.unlearning), ("relearn", result.relearning)):
            points = [p.point for p in seen if p.phase == phase and p.point is not None]
            assert Curve.of(points) == curve, "also where it begins"

    @pytest.mark.parametrize("phase", ["unlearn", "relearn"])
    def test_a_trial_is_stopped_as_a_phase_begins(self, phase):
        def report(progress: Progress) -> Decision:
            return Decision.STOP if (progress.phase, progress.passes) == (phase, 0) else Decision.CONTINUE

        result = run(report=report)
        assert (result.outcome, result.passes_booked) == (Outcome.CANCELLED, 0 if phase == "unlearn" else 20)

    def test_of_a_trial_that_unlearns_nothing(self):
        seen: list[Progress] = []
        run({"method": {"type": "none"}}, {}, report=lambda progress: seen.append(progress) or Decision.CONTINUE)
        assert [(p.passes, p.of) for p in seen if p.phase == "unlearn"] == [(0, 0)]

    def test_comes_at_least_once_a_pass_where_more_are_made_than_booked(self):
        seen: list[Progress] = []
        result = run({"method.adversary": {"gradient": "fresh"}},
                     report=lambda progress: seen.append(progress) or Decision.CONTINUE)  # fmt: skip
        assert sum(p.point is None for p in seen) == result.passes_made
        assert max(p.passes for p in seen if p.phase == "unlearn") == 20


def test_a_trial_leaves_the_threads_of_its_process_as_they_were():
    before = torch.get_num_threads()
    during = []
    run({"resources": {"cpus": 2.5}}, report=lambda _: during.append(torch.get_num_threads()) or Decision.STOP)
    assert (during, torch.get_num_threads()) == ([2], before)
