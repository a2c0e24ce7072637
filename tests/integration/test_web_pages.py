"""Pages as served: whole without scripts, escaped, refusing what pages of other sites ask for, quick at size."""

import re
from contextlib import contextmanager
from html.parser import HTMLParser

import large
import pytest
from problem_documents import assert_problem
from sqlalchemy import Engine, event
from test_api_comparisons import post
from test_api_trials import finish, result

from mudman import presets
from mudman.documents import read_yaml, write_yaml
from mudman.results import Fault, Outcome
from service.store import studies
from service.store.states import Action
from service.store.tables import Study
from service.web import pages
from service.web.fields import changed, sections

NASTY = "<script>alert(1)</script>\"'&{{7*7}}"
VOID = {"meta", "link", "input", "br", "line", "circle", "rect", "path"}


class Markup(HTMLParser):
    """Elements with their attributes; fails where they are not closed in order."""

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self._open.pop() == tag, (tag, self.getpos())


@pytest.fixture(scope="module")
def study(api, database) -> str:
    """Completed, with a best trial, one that failed, and a name that would be trouble."""
    body = {"preset": "quickstart", "overrides": {"name": NASTY, "labels": {"team": NASTY}}}
    study_id = api.post("/studies", json=body).json()["id"]
    with database.begin() as session:
        for action in (Action.PREPARE, Action.RUN, Action.COMPLETE):
            studies.change_state(session, study_id, action)
    finish(database, study_id, 0, result(Outcome.VALID, 3.25, log=NASTY))
    fault = Fault(type="ValueError", message=NASTY)
    finish(database, study_id, 1, result(Outcome.ERROR, fault=fault))
    return study_id


@pytest.fixture(scope="module")
def comparison(api, database) -> str:
    made = post(api, "bars", {"sign": {}, "no_mask": {"method.mask": "none"}}).json()
    ids = {one["variant"]: one["study"] for one in made["variants"]}
    for ordinal, value in enumerate((3.0, 5.0)):
        finish(database, ids["sign"], ordinal, result(Outcome.VALID, value))
    finish(database, ids["baseline"], 0, result(Outcome.VALID, 2.0))
    return made["id"]


@pytest.fixture(scope="module")
def addresses(study, comparison) -> list[str]:
    here = f"/ui/studies/{study}"
    trials = [f"{here}/trials/0", f"{here}/trials/1"]
    return ["/", here, *trials, f"/ui/comparisons/{comparison}", "/ui/cluster", "/ui/new", "/ui/studies/nothing"]


def test_every_page_is_well_formed_and_safe(api, addresses):
    for address in addresses:
        answer = api.get(address)
        assert answer.status_code == (404 if "nothing" in address else 200), address
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        elements = Markup(answer.text).elements
        for tag, given in elements:
            assert tag != "style", address
            assert not any(name.startswith("on") or name == "style" for name in given), (address, given)
            for name in ("src", "href", "action", "data-post", "data-stream"):
                assert given.get(name, "/").startswith(("/", "#")), (address, given)
        scripts = [given for tag, given in elements if tag == "script"]
        assert scripts and all(given.get("src", "").startswith("/ui/static/") for given in scripts)
        ids = [given["id"] for _, given in elements if "id" in given]
        assert len(ids) == len(set(ids)), address
        assert "<script>alert" not in answer.text
        assert "49" not in re.sub(r"[\d.:-]{5,}", "", answer.text) or "{{7*7}}" in answer.text


def test_links_between_pages_lead_somewhere(api, addresses):
    followed = set()
    for address in addresses:
        for tag, given in Markup(api.get(address).text).elements:
            target = (given.get("href") or given.get("src") or "").partition("#")[0]
            if target and target not in followed:
                followed.add(target)
                assert api.get(target).status_code == 200, (address, tag, target)
    assert len(followed) > 12


def test_a_study(api, study):
    page = api.get(f"/ui/studies/{study}").text
    assert "3.2500" in page
    assert "1 valid" in re.sub(r"<[^>]*>|\s+", " ", page).replace("  ", " ") or "valid</span> 1" in page
    buttons = [given["data-post"] for _, given in Markup(page).elements if "data-post" in given]
    assert buttons == [f"/studies/{study}/{action}" for action in ("retry", "extend", "confirm")]
    assert page.count('<path class="forget"') == 1


def test_a_first_trial_may_end_while_the_page_is_made(api, database, monkeypatch):
    study_id = api.post("/studies", json={"preset": "quickstart", "overrides": {"name": "meanwhile"}}).json()["id"]

    def show(*given, show=pages.studies.show):
        shown = show(*given)
        finish(database, study_id, 0, result(Outcome.VALID, 3.25))
        return shown

    monkeypatch.setattr(pages.studies, "show", show)
    answer = api.get(f"/ui/studies/{study_id}")
    assert (answer.status_code, "3.2500" in answer.text) == (200, True)


def test_a_trial_has_curves_its_fault_and_its_log(api, study):
    assert "&lt;script&gt;" in api.get(f"/ui/studies/{study}/trials/0").text
    assert "ValueError" in api.get(f"/ui/studies/{study}/trials/1").text
    assert api.get(f"/ui/studies/{study}/trials/7").status_code == 404


def test_a_comparison_has_a_bar_for_each_mean_and_a_line_for_the_baseline(api, comparison):
    page = api.get(f"/ui/comparisons/{comparison}").text
    bars = [given for tag, given in Markup(page).elements if tag == "rect"]
    widths = [float(given["width"]) for given in bars]
    assert len(widths) == 2
    assert widths[0] > 0
    assert widths[1] == 0, "no valid trial"
    [line] = [given for tag, given in Markup(page).elements if given.get("class") == "baseline"]
    # The mean is 4, the baseline 2: half as far from zero.
    reach = float(bars[0]["x"]) + widths[0]
    assert float(line["x1"]) - float(bars[0]["x"]) == pytest.approx((reach - float(bars[0]["x"])) / 2, abs=0.2)


def test_a_comparison_s_page_and_table_say_the_same(api, database):
    """Also where more trials are valid than the mean is taken over, and the best is not among the last."""
    made = post(api, "agree", {"sign": {}, "no_mask": {"method.mask": "none"}}, statistics={"last": 2}).json()
    for one, values in zip(made["variants"], ((9.0, 3.0, 5.0), (2.5, 3.25)), strict=False):
        for ordinal, value in enumerate(values):
            finish(database, one["study"], ordinal, result(Outcome.VALID, value))
    page = re.sub(r"<[^>]*>|\s+", " ", api.get(f"/ui/comparisons/{made['id']}").text)
    for row in api.get(made["links"]["table"]).json()["rows"]:
        found = row["result"]
        said = (f"{found['mean']:.4f} ± {found['standard_error']:.4f}", str(found["n"]), f"{found['best']:.4f}")
        assert re.search(r"\s+".join(map(re.escape, said)), page), (said, page)


@pytest.mark.parametrize("name", presets.names())
def test_the_form_of_every_preset_is_valid_as_it_comes(api, name: str):
    page = api.get("/ui/new", params={"preset": name}).text
    assert 'class="fine"' in page
    address = "/comparisons" if presets.about(name).kind == "comparison" else "/studies"
    dry = {"content": spec_in(page), "headers": {"Content-Type": "application/yaml"}}
    assert api.post(f"{address}?dry_run=true", **dry).status_code == 200
    assert {"name", "model.id", "budget.trials"} <= fields_in(page).keys()


def spec_in(page: str) -> str:
    text = re.search(r"<textarea[^>]*>\n(.*)</textarea>", page, re.DOTALL)[1]
    return HTMLText(text).text


def fields_in(page: str) -> dict[str, str]:
    """Values of the form's fields as the server knows them."""
    named = [(given.get("name", ""), given.get("value", "")) for tag, given in Markup(page).elements if tag == "input"]
    return {name.removeprefix("before."): value for name, value in named if name.startswith("before.")}


def post_form(api, page: str, action: str = "check", text: str | None = None, **changes: str):
    """As a browser without scripts posts it: every field, with these changes."""
    before = fields_in(page)
    values = {path: value for path, value in {**before, **changes}.items() if value not in ("true", "false")}
    flags = {path: "true" for path, value in {**before, **changes}.items() if value == "true"}
    form = {f"set.{path}": value for path, value in (values | flags).items()}
    form |= {f"before.{path}": value for path, value in before.items()}
    form |= {"spec": spec_in(page) if text is None else text, "action": action, "preset": "quickstart"}
    return api.post("/ui/new", data=form, follow_redirects=False)


def test_the_form_without_scripts(api):
    """Fields change the text, the text changes the fields, and what is wrong is said by field."""
    page = api.get("/ui/new").text
    changes = {"budget.trials": "7", "method.unlearning_rate.low": "1e-4", "method.retain_momentum.log": "true"}
    page = post_form(api, page, **changes, **{"method.target_modules": "gate_proj, up_proj"}).text
    assert "{low: 1e-4, high: 0.02, log: true}" in spec_in(page).replace("0.0001", "1e-4")
    assert fields_in(page).items() >= {"budget.trials": "7", "method.retain_momentum.log": "true"}.items()
    assert "Valid: 7 trials" in page
    wrong = post_form(api, page, **{"budget.trials": "many"}).text
    assert "<code>/budget/trials</code>" in wrong
    assert "trials: many" in spec_in(wrong)
    text = f"# enough\n{spec_in(page)}".replace("trials: 7", "trials: 9")
    page = post_form(api, page, text=text).text
    assert fields_in(page)["budget.trials"] == "9"
    assert "# enough" in spec_in(page)
    page = post_form(api, page, text=f"{text}\n}} no YAML").text
    assert "no YAML" in spec_in(page)
    assert 'class="problem"' in page


def test_what_is_no_form_is_refused(api):
    assert api.post("/ui/new", content="&".join(f"a{n}=1" for n in range(1100))).status_code == 413
    assert api.post("/ui/new", data={"preset": "none"}).status_code == 422
    assert 'class="problem"' in api.post("/ui/new", content=b"\xff\x00=%00").text


def test_the_form_starts_what_it_holds(api):
    page = api.get("/ui/new").text
    answer = post_form(api, page, "start", name="by form", **{"budget.trials": "3"})
    assert answer.status_code == 303
    assert "by form" in api.get(answer.headers["location"]).text
    taken = post_form(api, page, "start", name="by form", **{"budget.trials": "4"})
    assert (taken.status_code, "already has a study named" in taken.text) == (409, True)
    assert "trials: 4" in spec_in(taken.text), "nothing that was typed is lost"
    page = api.get("/ui/new?preset=dynamics-llama-small").text
    answer = post_form(api, page, "start", name="two by form")
    assert answer.headers["location"].startswith("/ui/comparisons/cp_")


@pytest.mark.parametrize("name", ["quickstart", "dynamics-llama-small", "wmdp-llama", "additions-smol-cruelty"])
def test_fields_change_what_they_show_and_nothing_else(name: str):
    text = write_yaml(presets.load(name))
    found = {field.path: field.value for section in sections(text) for field in section.fields}
    assert read_yaml(changed(text, found, found)) == read_yaml(text)
    assert changed(text, found | {"name": "other"}, found) != text
    for path, value in found.items():
        new = {"true": "false", "false": "true"}.get(value, "5")
        again = changed(text, {path: new}, {})
        assert {**found, path: new} == {field.path: field.value for one in sections(again) for field in one.fields}
        assert read_yaml(changed(again, {path: value}, {})).keys() == read_yaml(text).keys()


class HTMLText(HTMLParser):
    def __init__(self, text: str):
        super().__init__()
        self.text = ""
        self.feed(text)
        self.close()

    def handle_data(self, data):
        self.text += data


def test_pages_of_trials_follow_each_other(api, database):
    study_id = api.post("/studies", json={"preset": "quickstart", "overrides": {"name": "paged"}}).json()["id"]
    for ordinal in range(60):
        finish(database, study_id, ordinal, result(Outcome.VALID, 1.0 + ordinal))
    address, seen = f"/ui/studies/{study_id}?outcome=valid", []
    while address:
        elements = Markup(api.get(address).text).elements
        found = [given.get("href", "").rpartition("/trials/")[2] for tag, given in elements if tag == "a"]
        seen += [int(one) for one in found if one.isdigit()]
        address = next((given["href"] for _, given in elements if given.get("rel") == "next"), None)
    assert [ordinal for ordinal in seen if ordinal != 59] == list(range(59)), "the best is linked on every page"


def test_filters_that_are_not_set_are_sent_empty_by_browsers(api, study):
    assert api.get("/?text=&state=").text == api.get("/").text
    here = f"/ui/studies/{study}"
    assert api.get(f"{here}?outcome=").text == api.get(here).text
    for chosen in ("/?text=&state=queued", f"{here}?outcome=valid"):
        assert "selected" in api.get(chosen).text


def test_wrong_addresses_are_pages_too(api, study):
    for address, status in ((f"/ui/studies/{study}?cursor=x", 422), ("/ui/new?preset=none", 404), ("/?state=x", 422)):
        answer = api.get(address)
        assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (status, "text/html")
        assert "problem" in answer.text


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "https://elsewhere.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "http://testserver"}, 200),
        ({"Origin": "http://testserver"}, 200),
        ({}, 200),
    ],
)
def test_pages_of_others_change_nothing(api, database, headers: dict, status: int):
    name = f"cancelled {sorted(headers.items())}"
    study_id = api.post("/studies", json={"preset": "quickstart", "overrides": {"name": name}}).json()["id"]
    answer = api.post(f"/studies/{study_id}/cancel", headers=headers)
    assert answer.status_code == status
    if status == 403:
        assert_problem(answer, 403, "cross-site")
    with database.begin() as session:
        assert session.get_one(Study, study_id).state == ("queued" if status == 403 else "cancelled")
    assert api.get(f"/studies/{study_id}", headers=headers).status_code == 200, "looking is allowed"


@contextmanager
def rows_read():
    """How many rows each statement of a page brought to this process."""
    read: list[int] = []

    def note(connection, cursor, statement, parameters, context, many):
        read.append(cursor.rowcount if statement.lstrip().lower().startswith(("select", "with")) else 0)

    event.listen(Engine, "after_cursor_execute", note)
    yield read
    event.remove(Engine, "after_cursor_execute", note)


def test_a_page_of_a_large_study_reads_a_page_of_it(api, database):
    """How long pages take with 50,000 trials: tests/benchmarks/storage.py."""
    study_id = api.post("/studies", json={"preset": "quickstart", "overrides": {"name": "huge"}}).json()["id"]
    with database.begin() as session:
        large.fill(session, study_id, 5_000)
        large.analyze(session)
    made = post(api, "huge comparison", {"sign": {}, "no_mask": {"method.mask": "none"}}).json()
    with database.begin() as session:
        for one in made["variants"][:2]:
            large.fill(session, one["study"], 2_500)
        large.analyze(session)
    shown = f"/ui/comparisons/{made['id']}"
    for address in ("/", f"/ui/studies/{study_id}", f"/ui/studies/{study_id}?outcome=error", shown):
        with rows_read() as read:
            assert api.get(address).status_code == 200
        assert 0 < sum(read) < 1_000, (address, read)
