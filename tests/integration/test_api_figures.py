"""Figures over HTTP, in every form. Rows are written as the runner writes them."""

import json
import struct
import xml.etree.ElementTree as ElementTree

import pytest
from problem_documents import assert_problem
from searched import chosen, submit
from test_api_comparisons import post
from test_api_trials import finish, result

from mudman import presets
from mudman.results import Outcome, Trace
from service.figures.of_study import Name
from service.store.tables import Comparison, Study

TRACE = Trace(loop=(0, 1), forget_loss=(2.0, 3.0), retain_loss=(3.0, 3.0), update_norm=(1.0, 1.0), harmful=(0.0, 0.2))
EVIL = "</script><script>alert(1)</script>"


@pytest.fixture(scope="module")
def study(api, database) -> str:
    """Twelve valid trials and one that diverged, of a study with a hostile name."""
    study_id = submit(api, f"drawn {EVIL}", **{"record.trace": True, "record.trials": [3, 5]})
    for ordinal in range(12):
        rate = 0.001 * 1.2**ordinal
        traced = {"trace": TRACE} if ordinal in (3, 5) else {}
        made = result(Outcome.VALID, 2.0 + 0.1 * ordinal, **traced)
        finish(database, study_id, ordinal, made, chosen=chosen(rate))
    finish(database, study_id, 12, result(Outcome.DIVERGED), chosen=chosen(0.02))
    return study_id


@pytest.mark.parametrize("name", list(Name))
def test_every_form_of_every_figure(api, study, name):
    here = f"/studies/{study}/figures/{name}"
    definition = api.get(here)
    assert definition.headers["content-type"] == "application/json"
    assert definition.json()["$schema"].startswith("https://vega.github.io/schema/vega-lite/")
    assert definition.json()["description"]

    drawn = api.get(f"{here}?format=svg")
    assert drawn.headers["content-type"] == "image/svg+xml"
    texts = [element.text for element in ElementTree.fromstring(drawn.text).iter() if element.text]
    assert any(text.startswith(f"drawn {EVIL}") for text in texts), "as text, and nothing else"
    assert "sandbox" in drawn.headers["content-security-policy"]

    picture = api.get(f"{here}?format=png")
    assert picture.headers["content-type"] == "image/png"
    assert picture.content.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", picture.content[16:24])
    assert min(width, height) > 100

    page = api.get(f"{here}?format=html")
    assert page.headers["content-type"].startswith("text/html")
    assert "<script>alert" not in page.text
    assert "src=" not in page.text.split("</style>")[0] and "<link" not in page.text, "it needs nothing else"
    held = page.text.split('id="definition">')[1].split("</script>")[0]
    assert json.loads(held) == definition.json()
    assert "sandbox allow-scripts" in page.headers["content-security-policy"]


def test_what_the_figures_show(api, study):
    shares = api.get(f"/studies/{study}/figures/importance").json()["data"]["values"]
    assert shares[0]["hyper-parameter"] == "unlearning_rate"
    rows = api.get(f"/studies/{study}/figures/slice").json()["data"]["values"]
    assert [row["value"] for row in rows if row["best"]] == [pytest.approx(3.1)]
    assert len(rows) == 12
    dynamics = api.get(f"/studies/{study}/figures/dynamics").json()["hconcat"]
    assert [one["title"]["text"] for one in dynamics] == ["mudman, trial 5"], "the best of those with a trace"
    panel = api.get(f"/studies/{study}/figures/curves").json()["hconcat"][0]
    assert [point["median"] for point in panel["layer"][0]["data"]["values"]] == [2.0, 4.0]


def test_nothing_to_draw(api, database, study):
    empty = submit(api, "nothing to draw")
    for name in Name:
        detail = assert_problem(api.get(f"/studies/{empty}/figures/{name}"), 409, "no-figure")["detail"]
        assert "valid trial" in detail or "finished trial" in detail
        assert f"/studies/{empty}/trials" in detail
    finish(database, empty, 0, result(Outcome.VALID, 2.0), chosen=chosen(0.01))
    assert api.get(f"/studies/{empty}/figures/history").status_code == 200
    assert "10 valid trials" in assert_problem(api.get(f"/studies/{empty}/figures/importance"), 409)["detail"]
    assert_problem(api.get(f"/studies/{study}/figures/pie"), 422, "invalid-request")
    assert_problem(api.get(f"/studies/{study}/figures/history?format=gif"), 422, "invalid-request")
    assert_problem(api.get("/studies/st_aaaaaaaaaaaaaaaa/figures/history"), 404, "unknown-study")


def test_bars(api, database):
    made = post(api, "bars of it", {"mudman": {}, "no_masking": {"method.mask": "none"}, "empty": {}}).json()
    ids = {one["variant"]: one["study"] for one in made["variants"]}
    here = f"{made['links']['self']}/figures/bars"
    assert_problem(api.get(here), 409, "no-figure")
    for variant, level in {"mudman": 3.0, "no_masking": 2.0}.items():
        for ordinal, bump in enumerate((0.0, 0.2, -0.1, 0.1, -0.2, 0.15, -0.15, 0.05)):
            finish(database, ids[variant], ordinal, result(Outcome.VALID, level + bump))
    finish(database, ids["baseline"], 0, result(Outcome.VALID, 1.5))
    with database.begin() as session:
        session.get_one(Comparison, made["id"]).preset = "additions-pythia-python"

    figure = api.get(here).json()
    table = api.get(made["links"]["table"]).json()
    drawn = figure["layer"][0]["data"]["values"]
    assert [one["variant"] for one in drawn] == ["mudman", "no_masking"]
    for one, row in zip(drawn, table["rows"], strict=False):
        assert (one["mean"], one["verdict"], one["start"]) == (row["result"]["mean"], row["verdict"], 1.5)
        assert one["high"] - one["mean"] == pytest.approx(row["result"]["standard_error"])
    published = {p["variant"]: p["published"] for p in figure["layer"][2]["data"]["values"]}
    assert published == {"mudman": 11.3, "no_masking": 4.57}
    assert presets.about("additions-pythia-python").expected["mudman"].startswith("11.30")
    assert [one["encoding"]["y"] for one in figure["layer"][-3:-1]] == [{"datum": 1.5}] * 2, "the line and its name"
    assert figure["layer"][-1]["data"]["values"] == [{"published without unlearning": 3.3432}]
    assert figure["title"]["subtitle"].endswith("diamonds and dashed line: published")
    for form, start in (("svg", b"<svg"), ("png", b"\x89PNG"), ("html", b"<!doctype html>")):
        assert api.get(f"{here}?format={form}").content.startswith(start)
    others = here.removesuffix("bars")
    assert_problem(api.get(f"{others}dynamics"), 409, "no-figure")
    finish(database, ids["mudman"], 8, result(Outcome.VALID, 3.3, trace=TRACE))
    with database.begin() as session:
        spec = session.get_one(Study, ids["mudman"]).spec
        session.get_one(Study, ids["mudman"]).spec = spec | {"record": {"trace": True}}
    [panel] = api.get(f"{others}dynamics").json()["hconcat"]
    assert panel["title"]["text"] == "mudman, trial 8"
    curves = api.get(f"{others}curves").json()["hconcat"][0]["data"]["values"]
    assert {point["variant"] for point in curves} == {"mudman", "no_masking", "baseline"}
    rows = api.get(f"{others}times").json()["hconcat"][1]["data"]["values"]
    assert [(row["variant"], row["trials"]) for row in rows] == [
        ("mudman", "9"), ("no_masking", "8"), ("empty", "0"), ("baseline", "1")
    ]  # fmt: skip
    assert_problem(api.get(f"{others}pie"), 422, "invalid-request")
    against = api.get(f"{here}?reference=no_masking").json()["layer"][0]["data"]["values"]
    assert [one["verdict"] for one in against] == ["better", "reference"]
    assert_problem(api.get(f"{here}?reference=masks"), 404, "unknown-variant")
