"""The bookkeeping of one study: what counts, what runs again, and when it is over."""

import time

from hypothesis import given
from hypothesis import strategies as st

from mudman.results import Outcome
from mudman.specs import parse
from service.store.attempts import Ending, Record
from workers.book import ATTEMPTS, Attempt, Book


def spec(trials: int):
    return parse(
        {
            "name": "study",
            "model": {"id": "simulated"},
            "forget": {"corpus": "python-functions"},
            "retain": {"corpus": "wikitext"},
            "method": {"type": "none"},
            "attack": {"rate": 3e-3, "passes": 20},
            "budget": {"unlearn_passes": 0, "trials": trials},
        }
    )


def attempt(ordinal: int, number: int = 1) -> Attempt:
    return Attempt("study", ordinal, number, {"rate": 0.1 * ordinal})


def run(book: Book, one: Attempt, outcome: Outcome) -> bool:
    book.start(one)
    return book.end(one, outcome)


def test_only_what_may_still_count_is_asked():
    book = Book("study", spec(2))
    assert book.may_ask()
    book.start(attempt(0))
    assert book.may_ask()
    book.start(attempt(1))
    assert not book.may_ask(), "both that are open may count"
    assert book.end(attempt(0), Outcome.OUT_OF_MEMORY)
    assert book.may_ask(), "one of them did not"
    assert not book.complete
    book.end(attempt(1), Outcome.DIVERGED)
    assert run(book, attempt(2), Outcome.VALID)
    assert book.complete
    assert not book.may_ask()


def test_a_lost_attempt_runs_again_as_it_was_until_it_is_given_up():
    book = Book("study", spec(1))
    current = attempt(0)
    for number in range(1, ATTEMPTS):
        assert not run(book, current, Outcome.LOST)
        assert not book.may_ask(), "the ordinal still stands for the one trial that is needed"
        [current] = book.again
        assert (current.ordinal, current.attempt) == (0, number + 1)
        assert current.hyperparameters == attempt(0).hyperparameters
    assert run(book, current, Outcome.LOST)
    assert (book.wasted, len(book.again), book.may_ask()) == (1, 0, True)


def test_attempts_cancelled_on_request_are_never_given_up():
    book = Book("study", spec(1))
    current = attempt(0)
    for _ in range(5 * ATTEMPTS):
        assert not run(book, current, Outcome.CANCELLED)
        [current] = book.again
    assert run(book, current, Outcome.VALID)


def test_a_study_may_waste_twenty_or_half_its_budget():
    for trials, most in ((3, 20), (40, 20), (100, 50)):
        book = Book("study", spec(trials))
        for ordinal in range(most):
            run(book, attempt(ordinal), Outcome.ERROR)
        assert not book.hopeless
        run(book, attempt(most), Outcome.ERROR)
        assert book.hopeless


def test_of_trials_that_had_counted_before_each_may_be_replaced_once():
    one = {"ordinal": 3, "value": 2.0}
    repeats = {"study": "other", "configurations": [one], "seeds": [{"data": 1}, {"data": 2}]}
    book = Book("study", parse(spec(2).model_dump(mode="json") | {"repeats": repeats}))
    for ordinal in range(2):
        run(book, attempt(ordinal), Outcome.ERROR)
        assert (book.hopeless, book.may_ask()) == (False, True)
    run(book, attempt(2), Outcome.ERROR)
    assert book.hopeless


def test_waste_of_an_earlier_run_is_forgiven_and_what_counted_still_counts():
    endings = [Ending(Outcome.VALID, 3.0), *[Ending(Outcome.ERROR)] * 21]
    rows = [Record(n, 1, {"rate": 0.5}, ending, earlier=True) for n, ending in enumerate(endings)]
    book = Book.of("study", spec(2), rows)
    assert (book.counted, book.wasted, book.hopeless, book.may_ask()) == (1, 0, False, True)
    book = Book.of("study", spec(2), [*rows, Record(22, 1, {"rate": 0.5}, Ending(Outcome.ERROR))])
    assert book.wasted == 1


def test_a_row_without_an_end_is_open():
    rows = [
        Record(0, 1, {"rate": 0.5}, Ending(Outcome.VALID, 3.0)),
        Record(1, 1, {"rate": 0.6}, Ending(Outcome.LOST)),
        Record(1, 2, {"rate": 0.6}, None),
    ]
    book = Book.of("study", spec(3), rows)
    assert (book.counted, list(book.again)) == (1, [])
    assert book.open == {1: Attempt("study", 1, 2, {"rate": 0.6})}


def test_a_retried_trial_runs_again_as_it_was_though_the_budget_is_met():
    rows = [
        Record(0, 1, {"rate": 0.5}, Ending(Outcome.VALID, 3.0), earlier=True),
        Record(1, 1, {"rate": 0.6}, Ending(Outcome.ERROR), earlier=True, run_again=True),
        Record(2, 1, {"rate": 0.7}, Ending(Outcome.ERROR), earlier=True),
    ]
    book = Book.of("study", spec(1), rows)
    assert list(book.again) == [Attempt("study", 1, 2, {"rate": 0.6})]
    assert (book.counted, book.complete, book.may_ask()) == (1, False, False)
    book.start(*book.again)
    assert (list(book.again), book.complete) == ([], False)
    assert book.end(book.open[1], Outcome.VALID)
    assert (book.counted, book.complete) == (2, True), "one more than the budget asked for"


def test_how_often_a_retried_trial_was_lost_is_forgiven():
    def lost(number: int, **more) -> Record:
        return Record(0, number, {"rate": 0.5}, Ending(Outcome.LOST), **more)

    given_up = [*(lost(number) for number in range(1, ATTEMPTS)), lost(ATTEMPTS, run_again=True)]
    assert list(Book.of("study", spec(1), [*given_up[:-1], lost(ATTEMPTS)]).again) == []
    for more in range(ATTEMPTS):
        book = Book.of("study", spec(1), [*given_up, *[lost(ATTEMPTS + 1 + n) for n in range(more)]])
        assert [one.attempt for one in book.again] == [ATTEMPTS + 1 + more]
    book = Book.of("study", spec(1), [*given_up, *[lost(ATTEMPTS + 1 + n) for n in range(ATTEMPTS)]])
    assert list(book.again) == []


@given(st.data(), st.integers(1, 6), st.integers(1, 4))
def test_a_book_rebuilt_from_its_rows_is_the_same_book(data, trials, places):
    """Play any search, any places, any outcomes; at every moment the rows alone give back the same book."""
    book, rows, asked = Book("study", spec(trials)), {}, 0
    for _ in range(25):
        startable = len(book.open) < places and (book.again or book.may_ask())
        endable = sorted(book.open)
        if startable and (not endable or data.draw(st.booleans())):
            one = next(iter(book.again)) if book.again else attempt(asked)
            asked = max(asked, one.ordinal + 1)
            book.start(one)
            rows[one.ordinal, one.attempt] = Record(one.ordinal, one.attempt, one.hyperparameters, None)
        elif endable:
            one = book.open[data.draw(st.sampled_from(endable))]
            outcome = data.draw(st.sampled_from(Outcome))
            book.end(one, outcome)
            rows[one.ordinal, one.attempt] = Record(one.ordinal, one.attempt, one.hyperparameters, Ending(outcome))
        rebuilt = Book.of("study", spec(trials), [rows[key] for key in sorted(rows)])
        assert rebuilt.open == book.open
        assert (rebuilt.counted, rebuilt.wasted, rebuilt.losses) == (book.counted, book.wasted, book.losses)
        assert {a.ordinal: a for a in rebuilt.again} == {a.ordinal: a for a in book.again}
        assert book.counted <= trials
        # Ordinals have no gaps, and none counts twice.
        assert {ordinal for ordinal, _ in rows} == set(range(asked))
        counted = [key[0] for key, row in rows.items() if row.ending and row.ending.outcome.counts]
        assert len(counted) == len(set(counted)) == book.counted


def test_thousands_are_retried_in_their_order_and_in_no_time():
    """One scan of what waits for each of them would take some eight seconds."""
    rows = [Record(n, 1, {"rate": 0.5}, Ending(Outcome.ERROR), earlier=True, run_again=True) for n in range(10_000)]
    started = time.process_time()
    book = Book.of("study", spec(10_000), rows)
    assert time.process_time() - started < 3
    assert [(one.ordinal, one.attempt) for one in book.again] == [(n, 2) for n in range(10_000)]


def test_what_is_retried_once_more_goes_to_the_end_of_the_line():
    book = Book("study", spec(3))
    for ordinal in range(2):
        run(book, attempt(ordinal), Outcome.ERROR)
        book.retry(attempt(ordinal))
    book.retry(attempt(0, 2))
    assert [(one.ordinal, one.attempt) for one in book.again] == [(1, 2), (0, 3)]
