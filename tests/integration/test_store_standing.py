"""Where a study stands, by the counts that are kept."""

import pytest
from test_store_studies import add_trial, create

from service.store import standing, studies


def test_counts_best_and_progress(database):
    study_id = create(database, "counted", **{"resources.max_concurrent": 2})
    with database.begin() as session:
        assert standing.counts(session, study_id) == {}
        assert standing.best(session, studies.get(session, study_id)) is None
        empty = standing.progress(session, studies.get(session, study_id), max_live=None)
        assert (empty.trials, empty.budget, empty.eta_seconds, empty.best_value) == (0, 10, None, None)
    add_trial(database, study_id, 0, "valid", 3.0)
    add_trial(database, study_id, 1, "valid", 4.0)
    add_trial(database, study_id, 2, "valid", 4.0)
    add_trial(database, study_id, 3, "over_retain_budget")
    add_trial(database, study_id, 4, "lost")
    add_trial(database, study_id, 4, None, attempt=2, progress={"phase": "unlearn", "passes": 30, "of": 150})
    with database.begin() as session:
        found = standing.counts(session, study_id)
        assert found == {"valid": 3, "over_retain_budget": 1, "lost": 1, "running": 1}
        best = standing.best(session, studies.get(session, study_id))
        assert (best.ordinal, best.value) == (1, 4.0)  # of equals, the one that came first
        study = studies.get(session, study_id)
        progress = standing.progress(session, study, max_live=None)
        assert (progress.trials, progress.running, progress.best_value) == (4, 1, 4.0)
        assert progress.outcomes == {"valid": 3, "over_retain_budget": 1, "lost": 1}
        assert [(trial.ordinal, trial.attempt) for trial in progress.live] == [(4, 2)]
        # 6 of 10 remain, 10 s each, 2 at once; 1 at once where the dispatcher allows no more.
        assert progress.eta_seconds == pytest.approx(30, abs=0.1)
        assert standing.progress(session, study, max_live=1).eta_seconds == pytest.approx(60, abs=0.1)


def test_no_ordinal_counts_twice(database):
    study_id = create(database, "once")
    add_trial(database, study_id, 0, "valid", 1.0)
    with pytest.raises(Exception, match="uq_trial_counts_once"):
        add_trial(database, study_id, 0, "diverged", attempt=2)
