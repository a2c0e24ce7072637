"""Optuna's dashboard: for reading, behind the door, and nothing that the API needs."""

import subprocess
import sys

import pytest
from guarded import guarded, shown, token
from optuna.exceptions import StorageInternalError
from optuna.study import StudyDirection
from problem_documents import assert_problem
from sqlalchemy import text

from service.dashboard import readonly
from service.store import optuna_rows

STUDY = "st_AAAAAAAAAAAAAAAA"


@pytest.fixture(scope="module")
def number(database) -> int:
    """The study's, at Optuna."""
    with database.begin() as session:
        optuna_rows.create(session, STUDY, "maximize")
        return session.scalar(text("select study_id from optuna.studies"))


@pytest.fixture(scope="module")
def door(database, number):
    with guarded(database) as client:
        yield client


@pytest.fixture(scope="module")
def root(database) -> dict[str, str]:
    return shown(token(database, "root", "admin"))


def test_it_reads_the_studies(door, root, number):
    page = door.get("/dashboard", headers=root)
    assert "Optuna Dashboard" in page.text
    assert "'unsafe-eval'" in page.headers["content-security-policy"]
    assert "unsafe" not in door.get("/", headers=root).headers["content-security-policy"]
    assert page.headers["x-frame-options"] == "DENY"
    assert len(door.get("/static/bundle.js", headers=root).content) > 1e6
    listed = door.get("/api/studies", headers=root).json()["study_summaries"]
    assert [(one["study_id"], one["study_name"]) for one in listed] == [(number, STUDY)]
    assert door.get(f"/api/studies/{number}", headers=root).status_code == 200
    assert door.get("/static/..%2f..%2f__init__.py", headers=root).status_code in (403, 404)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/studies"),
        ("DELETE", "/api/studies/{}"),
        ("POST", "/api/studies/{}/rename"),
        ("PUT", "/api/studies/{}/note"),
        ("POST", "/api/trials/1/tell"),
        ("POST", "/api/trials/1/user-attrs"),
        ("PATCH", "/dashboard"),
        ("OPTIONS", "/api/studies"),
    ],
)
def test_nothing_changes_anything_not_even_for_an_admin(door, root, number, database, method, path):
    body = {"study_name": "new", "directions": ["maximize"]}
    answer = door.request(method, path.format(number), json=body, headers=root)
    assert_problem(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == "GET, HEAD"
    with database.begin() as session:
        assert session.execute(text("select study_name from optuna.studies")).scalars().all() == [STUDY]


def test_the_database_itself_refuses_what_it_would_write(database):
    storage = readonly(database.url).storage
    with pytest.raises(StorageInternalError) as refused:
        storage.create_new_study([StudyDirection.MAXIMIZE], "another")
    assert "read-only transaction" in str(refused.value.__cause__)
    storage.engine.dispose()


def test_a_study_that_is_too_large_for_it_is_refused_and_the_others_are_shown(database, number, root):
    with database.begin() as session:
        trials = "insert into optuna.trials (study_id, number, state) select :study, n, 'FAIL'"
        session.execute(text(f"{trials} from generate_series(0, 4) n"), {"study": number})
    with guarded(database, dashboard_trials=4) as small, guarded(database, dashboard_trials=5) as enough:
        for path in (f"/api/studies/{number}", f"/csv/{number}", f"/api/studies/{number}/param_importances"):
            assert (
                "MUDMAN_DASHBOARD_TRIALS" in assert_problem(small.get(path, headers=root), 409, "too-large")["reason"]
            )
        assert small.get("/api/studies", headers=root).status_code == 200
        assert enough.get(f"/api/studies/{number}", headers=root).status_code == 200


@pytest.mark.parametrize("form", ["0{:09}", "00{}", "-{}", "+{}", "{}%0A", "99999999999", "2147483648", "0", "a"])
@pytest.mark.parametrize("place", ["/api/studies/{}", "/csv/{}", "/api/studies/{}/param_importances"])
def test_no_other_way_to_write_a_number_passes_by_the_limit(database, number, root, form, place):
    with guarded(database, dashboard_trials=0) as small:
        answer = small.get(place.format(form.format(number)), headers=root)
        assert_problem(answer, 404, "not-found")


def test_optuna_is_loaded_when_somebody_looks_and_not_before():
    code = """
import sys
from service.app import create_app
from service.store.settings import Settings
create_app(Settings(database_url="postgresql:///none?host=/nowhere"))
print(*sorted({name.partition(".")[0] for name in sys.modules} & {"optuna", "optuna_dashboard", "bottle", "a2wsgi"}))
"""
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert loaded.stdout.split() == []
