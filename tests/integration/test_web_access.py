"""Signing in with a real browser, and Optuna's dashboard in it, behind the same door."""

from collections.abc import Iterator

import pytest
from guarded import token
from optuna import create_trial, load_study
from optuna.distributions import FloatDistribution
from optuna.storages import RDBStorage
from served import served
from sqlalchemy.pool import NullPool
from test_api_trials import finish, result
from test_web_browser import CHROMIUM, DRIVER, browser, complaints  # noqa: F401 - fixtures

from mudman import presets
from mudman.results import Outcome
from mudman.specs import parse
from service.app import create_app
from service.store import optuna_rows, studies, tokens
from service.store.database import optuna_url
from service.store.settings import Settings
from service.store.states import Action

pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="no Chromium here: the Debian packages chromium and chromium-driver bring one"
)


@pytest.fixture(scope="module")
def address(database) -> Iterator[str]:
    app = create_app(Settings(database_url=database.url, access="tokens"))
    with served(app) as address:
        yield address


@pytest.fixture(scope="module")
def at_optuna(database, running) -> str:
    """The same study in Optuna's own tables, with trials that Optuna itself writes."""
    with database.begin() as session:
        optuna_rows.create(session, running, "maximize")
    storage = RDBStorage(optuna_url(database.url), engine_kwargs={"poolclass": NullPool})
    study = load_study(study_name=running, storage=storage)
    space = {"unlearning_rate": FloatDistribution(1e-5, 0.3, log=True), "retain_momentum": FloatDistribution(0, 1)}
    for number in range(8):
        chosen = {"unlearning_rate": 0.001 * (number + 1), "retain_momentum": number / 10}
        study.add_trial(create_trial(params=chosen, distributions=space, value=3.0 + number / 7))
    return running


@pytest.fixture(scope="module")
def running(database) -> str:
    """A study of ann's that runs."""
    spec = parse(presets.load("quickstart") | {"name": "of ann", "owner": "ann"})
    with database.begin() as session:
        made = studies.create(session, spec).study.id
        for action in (Action.PREPARE, Action.RUN):
            studies.change_state(session, made, action)
    for ordinal, value in enumerate((3.0, 4.5, 3.7)):
        chosen = {"unlearning_rate": 0.002 * (ordinal + 1), "retain_momentum": 0.3 * ordinal}
        finish(database, made, ordinal, result(Outcome.VALID, value), chosen=chosen)
    return made


def signed_in(browser, database, owner: str, scope: str, wanted: str) -> None:  # noqa: F811
    browser.driver.delete_all_cookies()
    browser.open(wanted)
    browser.until(lambda: "/ui/sign-in" in browser.driver.current_url, "the form")
    browser.set("#token", token(database, owner, scope))
    browser.click("main button")
    browser.until(lambda: browser.driver.current_url.endswith(wanted), wanted)


def test_a_token_opens_the_page_that_was_asked_for(browser, database, running, complaints):  # noqa: F811
    complaints.append("401")
    page = f"/ui/studies/{running}"
    browser.open(page)
    browser.shows("Sign in")
    browser.set("#token", "mudman_" + "A" * 43)
    browser.click("main button")
    browser.shows("The token is not known here.")
    signed_in(browser, database, "ann", "submit", page)
    browser.shows("of ann")
    assert browser.text(".signed span") == "ann (submit)"
    assert browser.value("document.cookie") == ""
    # What a header could not be sent with: the stream, and a change that a button asks for.
    browser.until(lambda: browser.text("#connection") == "live", "the stream")
    browser.click("button[data-post$='/pause']")
    browser.shows("paused")
    with database.begin() as session:
        for one in tokens.every(session, "ann"):
            tokens.revoke(session, one.id)
    browser.until(lambda: "/ui/sign-in" in browser.driver.current_url, "the token is gone")
    signed_in(browser, database, "ann", "submit", page)
    browser.click(".signed button")
    browser.until(lambda: "/ui/sign-in" in browser.driver.current_url, "signed out")
    browser.open(page)
    browser.shows("Sign in")


def test_who_is_signed_out_while_typing_is_told(browser, database, complaints):  # noqa: F811
    complaints += ["401", "403"]
    signed_in(browser, database, "sue", "submit", "/ui/new")
    browser.shows("Valid: ", "#verdict")
    text = browser.value("document.getElementById('spec').value").replace("trials: 10", "trials: 7")
    with database.begin() as session:
        for one in tokens.every(session, "sue"):
            tokens.revoke(session, one.id)
    browser.set("#spec", text)
    browser.shows("You are signed out", "#verdict")
    assert browser.value("document.getElementById('spec').value") == text
    signed_in(browser, database, "eve", "read", "/ui/new")
    browser.set("#spec", text)
    browser.shows("Your token only reads", "#verdict")


def test_somebody_elses_study_can_be_read_and_its_buttons_say_why_not(browser, database, running, complaints):  # noqa: F811
    complaints.append("403")
    signed_in(browser, database, "bob", "submit", f"/ui/studies/{running}")
    browser.click("button[data-post$='/resume']")
    browser.shows("belongs to 'ann'", "#refusal")
    browser.shows("paused")


def test_the_form_is_for_everybody(browser):  # noqa: F811
    from axe_core_python.selenium import Axe

    browser.driver.delete_all_cookies()
    for scheme in ("light", "dark"):
        browser.scheme(scheme)
        browser.open("/ui/sign-in?next=/ui/new")
        found = Axe().run(browser.driver)["violations"]
        assert [one["id"] for one in found] == []
    assert browser.value("document.activeElement.id") in ("", "token")


def test_optunas_dashboard_shows_the_study(browser, database, at_optuna, complaints):  # noqa: F811
    signed_in(browser, database, "eve", "read", "/ui/cluster")
    browser.open("/dashboard/")
    browser.shows(at_optuna, "body")
    browser.click("a[href*='/dashboard/studies/']")
    browser.shows("retain_momentum", "body")
    browser.until(lambda: browser.value("document.querySelectorAll('.js-plotly-plot').length") >= 3, "plots")
