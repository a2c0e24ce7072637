"""Pages in a real, headless Chromium, over a real server."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from searched import chosen
from sqlalchemy import func, select
from test_api_comparisons import post
from test_api_trials import finish, result
from test_cli_comparisons import address  # noqa: F401 - fixture

from mudman.results import Checkpoint, KeptFile, Outcome
from service.store import events, repeating, studies
from service.store.states import Action
from service.store.tables import Study, Trial

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
WITHIN = 10.0
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="no Chromium here: the Debian packages chromium and chromium-driver bring one"
)


class Browser:
    def __init__(self, driver, url: str):
        self.driver, self._url = driver, url

    def open(self, path: str) -> None:
        self.driver.get(self._url + path)

    def text(self, selector: str = "main") -> str:
        return self.driver.execute_script("return document.querySelector(arguments[0])?.innerText ?? ''", selector)

    def click(self, selector: str) -> None:
        from selenium.common.exceptions import StaleElementReferenceException
        from selenium.webdriver.common.by import By

        def clicked() -> bool:
            try:
                self.driver.find_element(By.CSS_SELECTOR, selector).click()
            except StaleElementReferenceException:
                return False  # the part was freshened between the two
            return True

        self.until(clicked, selector)

    def set(self, selector: str, value: str) -> None:
        """As if it were typed: the field says that it has new input."""
        script = """const field = document.querySelector(arguments[0]); field.value = arguments[1];
            field.dispatchEvent(new Event("input", {bubbles: true}))"""
        self.driver.execute_script(script, selector, value)

    def value(self, script: str):
        return self.driver.execute_script(f"return {script}")

    def until(self, condition: Callable[[], object], what: object = "") -> None:
        deadline = time.monotonic() + WITHIN
        while not condition():
            assert time.monotonic() < deadline, (what, self.text("body"))
            time.sleep(0.05)

    def shows(self, said: str, selector: str = "main") -> None:
        self.until(lambda: said in self.text(selector), said)

    def scheme(self, name: str) -> None:
        features = [{"name": "prefers-color-scheme", "value": name}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def wide(self, width: int, height: int = 1000) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


@pytest.fixture(scope="module")
def browser(address) -> Iterator[Browser]:  # noqa: F811
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--no-proxy-server"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    try:
        yield Browser(driver, address)
    finally:
        driver.quit()


@pytest.fixture(autouse=True)
def complaints(browser: Browser) -> Iterator[list[str]]:
    """Fails where the browser complains: a script's error, or something that the policy forbids."""
    browser.driver.get_log("browser")
    expected: list[str] = []
    yield expected
    said = [entry["message"] for entry in browser.driver.get_log("browser") if entry["level"] == "SEVERE"]
    assert [one for one in said if not any(known in one for known in expected)] == []


def create(api, name: str) -> str:
    return api.post("/studies", json={"preset": "quickstart", "overrides": {"name": name}}).json()["id"]


def change(database, study_id: str, *actions: Action) -> None:
    with database.begin() as session:
        for action in actions:
            studies.change_state(session, study_id, action)


def said(points: int, phase: str = "relearn") -> dict:
    """Progress of a running trial, as its runner stores it."""
    unlearning = {"passes": [0, 50, 100], "forget_loss": [2.0, 4.0, 7.5], "retain_loss": [3.0, 3.02, 3.06]}
    passes = [10 * index for index in range(points)]
    attacked = {
        "passes": passes,
        "forget_loss": [3.0 + 4.5 * 0.6**index for index in range(points)],
        "retain_loss": [3.06 - 0.01 * index for index in range(points)],
    }
    return {"phase": phase, "passes": passes[-1], "of": 40, "unlearning": unlearning, "relearning": attacked}


def running(database, study_id: str, ordinal: int, points: int) -> None:
    with database.begin() as session:
        trial = session.get(Trial, (study_id, ordinal, 1))
        if trial is None:
            values = {"unlearning_rate": 0.004}
            trial = Trial(study_id=study_id, ordinal=ordinal, attempt=1, epoch=1, hyperparameters=values)
            trial.started_at = session.scalar(select(func.now()))
            session.add(trial)
        trial.progress = said(points)


@pytest.fixture(scope="module")
def live(api, database) -> str:
    """A study that runs: three trials ended, one under attack."""
    study_id = create(api, "shown live")
    change(database, study_id, Action.PREPARE, Action.RUN)
    finish(database, study_id, 0, result(Outcome.VALID, 3.0))
    finish(database, study_id, 1, result(Outcome.VALID, 4.5))
    finish(database, study_id, 2, result(Outcome.OVER_RETAIN_BUDGET, overrun=0.02, stopped_at_pass=30))
    running(database, study_id, 3, points=2)
    return study_id


@pytest.fixture(scope="module")
def comparison(api, database) -> str:
    made = post(api, "compared", {"sign": {}, "no_mask": {"method.mask": "none"}}).json()
    ids = {one["variant"]: one["study"] for one in made["variants"]}
    for variant, values in {"sign": (3.4, 4.0, 3.8), "no_mask": (2.6, 2.9), "baseline": (2.4,)}.items():
        for ordinal, value in enumerate(values):
            finish(database, ids[variant], ordinal, result(Outcome.VALID, value))
    return made["id"]


@pytest.fixture(scope="module")
def confirmed(api, database) -> str:
    """A study whose best two were run again, and the best of which is kept."""
    study_id = create(api, "confirmed")
    for ordinal, value in enumerate((4.0, 3.9)):
        finish(database, study_id, ordinal, result(Outcome.VALID, value), chosen=chosen(0.004 + 0.01 * ordinal))
    with database.begin() as session:
        child = repeating.confirm(session, study_id, best=2, seeds=2).study.id
        keeping = repeating.keep(session, study_id).study.id
    for ordinal, value in enumerate((3.0, 3.2, 3.5, 3.5)):
        finish(database, child, ordinal, result(Outcome.VALID, value))
    file = KeptFile(name="model.safetensors", bytes=5_267_928, sha256="0d")
    kept = Checkpoint(ordinal=0, agreement="bit-equal", difference=0.0, files=(file,), key=f"{keeping}/0-1")
    finish(database, keeping, 0, result(Outcome.VALID, 4.0, checkpoint=kept))
    return study_id


def test_the_best_is_confirmed_by_a_button(browser: Browser, api, database):
    study_id = create(api, "to be confirmed")
    finish(database, study_id, 0, result(Outcome.VALID, 4.0), chosen=chosen(0.004))
    browser.open(f"/ui/studies/{study_id}")
    browser.click(f"[data-post='/studies/{study_id}/confirm']")
    browser.shows("Confirmed", "#best")
    with database.begin() as session:
        child = repeating.newest(session, study_id, keeping=False).id
    assert browser.value(f"document.querySelector('#best a[href=\"/ui/studies/{child}\"]').innerText") == "queued"
    browser.open(f"/ui/studies/{child}")
    assert "another study again" in browser.text("main")


def test_what_is_left_of_the_best_and_where_its_weights_are(browser: Browser, confirmed: str):
    browser.open(f"/ui/studies/{confirmed}")
    said = browser.text("#best")
    for words in ("3.1000 ± 0.1000", "-0.9000 ± 0.1000", "1 ★", "Confirmed best is trial 1, not 0: +0.4000 ± 0.1000"):
        assert words in said
    assert "Trial 0: 5.27 MB, bit-equal" in said
    browser.click("#best summary")
    assert f"mudman pull {confirmed} ./model --trial 0" in browser.text("#best")


def test_a_study_grows_before_ones_eyes(browser: Browser, database, live: str):
    browser.open(f"/ui/studies/{live}")
    browser.shows("live", "#connection")
    browser.shows("pass 10 of 40", "#running")
    circles = "document.querySelectorAll('#running circle.forget').length"
    assert browser.value(circles) == 5
    browser.value("window.here = true")
    running(database, live, 3, points=4)
    browser.shows("pass 30 of 40", "#running")
    assert browser.value(circles) == 7
    finish_running(database, live, 3, 6.25)
    browser.shows("6.2500", "#best")
    browser.shows("trial finished", "#events")
    assert "4/10" in browser.text("#standing")
    assert "Nothing runs now" in browser.text("#running")
    assert browser.value("window.here"), "the page was not loaded again"


def finish_running(database, study_id: str, ordinal: int, value: float) -> None:
    with database.begin() as session:
        session.delete(session.get_one(Trial, (study_id, ordinal, 1)))
    finish(database, study_id, ordinal, result(Outcome.VALID, value))
    with database.begin() as session:
        events.append(session, study_id, "trial_finished", {"ordinal": ordinal, "outcome": "valid", "value": value})


def test_buttons_call_the_api(browser: Browser, api, database):
    study_id = create(api, "pushed")
    change(database, study_id, Action.PREPARE, Action.RUN)
    finish(database, study_id, 0, result(Outcome.ERROR))
    browser.open(f"/ui/studies/{study_id}")
    for action, state in (("pause", "paused"), ("resume", "running")):
        browser.click(f"[data-post$='/{action}']")
        browser.shows(state, "#standing")
        browser.until(lambda state=state: api.get(f"/studies/{study_id}").json()["state"] == state)
        browser.until(lambda action=action: not browser.text(f"[data-post$='/{action}']"))
    browser.click("[data-post$='/cancel']")
    browser.driver.switch_to.alert.dismiss()
    assert api.get(f"/studies/{study_id}").json()["state"] == "running"
    browser.click("[data-post$='/cancel']")
    browser.driver.switch_to.alert.accept()
    browser.shows("cancelled", "#standing")
    browser.until(lambda: browser.text("[data-post$='/extend']"))
    browser.set("[name=trials]", "25")
    browser.click("[data-post$='/extend'] button")
    browser.shows("queued", "#standing")
    assert api.get(f"/studies/{study_id}").json()["spec"]["budget"]["trials"] == 25
    change(database, study_id, Action.CANCEL)
    browser.until(lambda: browser.text("[data-post$='/retry']"))
    browser.click("[data-post$='/retry']")
    browser.shows("queued", "#standing")


def test_a_refusal_is_shown(browser: Browser, api, database, complaints: list[str]):
    complaints.append("409 (Conflict)")
    study_id = create(api, "refused")
    browser.open(f"/ui/studies/{study_id}")
    # Somebody else is faster, and the page does not hear of it.
    browser.shows("live", "#connection")
    browser.value("source.close()")
    browser.until(lambda: browser.value("!busy && !due"))
    with database.begin() as session:
        session.get_one(Study, study_id).state = "completed"
    browser.click("[data-post$='/cancel']")
    browser.driver.switch_to.alert.accept()
    browser.shows("completed", "#refusal")


def test_the_form_says_what_is_wrong_as_one_types_and_starts_what_is_right(
    browser: Browser, api, complaints: list[str]
):
    complaints.append("422")
    browser.open("/ui/new?preset=quickstart")
    browser.shows("Valid: 10 trials", "#verdict")
    packaged = browser.value("document.getElementById('spec').value")
    browser.set("#spec", packaged.replace("trials: 10", "trials: 0").replace("passes: 40", "pases: 40"))
    browser.shows("/budget/trials", "#verdict")
    assert "/attack/pases" in browser.text("#verdict")
    assert browser.value("document.getElementById('submit').disabled")
    browser.set("#spec", packaged.replace("trials: 10", "trials: 7").replace("name: quickstart", "name: typed"))
    browser.shows("Valid: 7 trials", "#verdict")
    assert browser.value("document.getElementsByName('set.budget.trials')[0].value") == "7"
    browser.set("[name='set.budget.trials']", "8")
    browser.shows("Valid: 8 trials", "#verdict")
    assert "trials: 8" in browser.value("document.getElementById('spec').value")
    browser.click("#submit")
    browser.until(lambda: "/ui/studies/st_" in browser.driver.current_url)
    browser.shows("typed", "h1")
    [made] = api.get("/studies", params={"text": "typed"}).json()["items"]
    assert (made["name"], made["progress"]["budget"]) == ("typed", 8)


def test_the_form_starts_comparisons(browser: Browser, complaints: list[str]):
    browser.open("/ui/new?preset=additions-one-rate-small")
    browser.shows("Valid: ", "#verdict")
    browser.click("#submit")
    browser.until(lambda: "/ui/comparisons/" in browser.driver.current_url)
    browser.shows("Table")


def test_what_is_focused_stays_until_it_is_left(browser: Browser, api, database):
    study_id = create(api, "focused")
    browser.open(f"/ui/studies/{study_id}")
    browser.shows("live", "#connection")
    browser.value("document.querySelector('#trials select').focus()")
    finish(database, study_id, 0, result(Outcome.VALID, 3.0))
    with database.begin() as session:
        events.append(session, study_id, "trial_finished", {"ordinal": 0})
    browser.shows("3.0000", "#best")
    assert "3.0000" not in browser.text("#trials")
    browser.value("document.activeElement.blur()")
    browser.shows("3.0000", "#trials")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_serious_is_inaccessible_and_nothing_is_too_wide(
    browser: Browser, live: str, confirmed: str, comparison: str, scheme: str
):
    axe = pytest.importorskip("axe_core_python", reason="axe-core-python is not installed")
    script = (Path(axe.__file__).parent / "axe.min.js").read_text("utf-8")
    pages = [
        "/",
        f"/ui/studies/{confirmed}",
        f"/ui/studies/{live}",
        f"/ui/studies/{live}/trials/0",
        f"/ui/comparisons/{comparison}",
    ]
    for path in [*pages, "/ui/cluster", "/ui/new"]:
        browser.scheme(scheme)
        browser.wide(1280)
        browser.open(path)
        browser.driver.execute_script(script)
        found = browser.driver.execute_async_script("axe.run().then(arguments[arguments.length - 1])")
        serious = [
            (one["id"], [node["html"][:160] for node in one["nodes"]])
            for one in found["violations"]
            if one["impact"] in ("serious", "critical")
        ]
        assert serious == [], path
        assert len(found["passes"]) > 10, "it was looked at"
        dark = browser.value("getComputedStyle(document.body).backgroundColor")
        assert (dark == "rgb(20, 24, 28)") == (scheme == "dark")
        _keep(browser, f"{path.strip('/').replace('/', '-') or 'index'}-{scheme}")
        browser.wide(390)
        assert browser.value("document.documentElement.scrollWidth") <= 390, path
        _keep(browser, f"{path.strip('/').replace('/', '-') or 'index'}-{scheme}-narrow")


def _keep(browser: Browser, name: str) -> None:
    """A picture of the page in the folder of MUDMAN_SCREENSHOTS, where one is asked for."""
    if folder := os.environ.get("MUDMAN_SCREENSHOTS"):
        browser.driver.save_screenshot(str(Path(folder) / f"{name}.png"))
