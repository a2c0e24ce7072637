"""Definitions of figures: what they show of the numbers that they are given."""

import random
from types import SimpleNamespace

import numpy as np
import pytest

from mudman import presets
from mudman.results import Curve, Trace
from mudman.specs import Range, parse
from service.figures import of_study
from service.figures.bars import read
from service.figures.curves import BAND, BEST, curves, quartiles
from service.figures.dynamics import HARMFUL, HARMLESS, Traced, dynamics
from service.figures.history import history
from service.figures.importance import importances
from service.figures.overlaid import overlaid
from service.figures.rendering import render
from service.figures.slices import slices
from service.figures.style import MOST_POINTS, thinned
from service.figures.times import times
from service.statistics.compute import Attempt, Tally
from service.statistics.means import summarise


def attempts(values: list[float | None]) -> list[Attempt]:
    return [Attempt(n, 1, "diverged" if value is None else "valid", value) for n, value in enumerate(values)]


def layer(figure: dict, field: str) -> list[dict]:
    """Data of the first layer whose y is this field."""
    found = [one for one in figure["layer"] if one["encoding"]["y"].get("field") == field]
    return found[0]["data"]["values"]


def test_history():
    values = [2.0, None, 3.0, 2.5, 4.0]
    summary = summarise([2.0, 3.0, 2.5, 4.0], last=2)
    figure = history("one", "forget_loss", attempts(values), summary, 1.5, minimise=False)
    assert [(p["trial"], p["value"]) for p in layer(figure, "value")] == [(0, 2.0), (2, 3.0), (3, 2.5), (4, 4.0)]
    assert [(p["trial"], p["best"]) for p in layer(figure, "best")] == [(0, 2.0), (2, 3.0), (4, 4.0), (4, 4.0)]
    [window] = layer(figure, "mean")
    assert (window["first"], window["last"], window["mean"]) == (3, 4, 3.25)
    assert window["high"] - window["mean"] == pytest.approx(summary.standard_error)
    assert {"trial": 1, "outcome": "diverged"} in [p for one in figure["layer"] for p in one["data"]["values"]]
    lowest = history("one", "cloze_accuracy", attempts(values), summary, None, minimise=True)
    assert [(p["trial"], p["best"]) for p in layer(lowest, "best")] == [(0, 2.0), (4, 2.0)]


def test_a_large_history_keeps_every_record():
    values = [random.Random(n).random() for n in range(20_000)]
    figure = history("large", "forget_loss", attempts(values), summarise(values, 30), None, minimise=False)
    points, records = layer(figure, "value"), layer(figure, "best")
    assert len(points) < MOST_POINTS + len(records)
    assert {p["trial"] for p in records[:-1]} <= {p["trial"] for p in points}
    assert "of 20000 valid trials" in figure["title"]["subtitle"]


def test_thinned_at_even_distances():
    assert thinned(range(10)) == list(range(10))
    found = thinned(range(10 * MOST_POINTS))
    assert found == list(range(0, 10 * MOST_POINTS, 10))


def test_slices_over_ranges_with_dots():
    space = {"rate": Range(low=1e-3, high=1.0, log=True), "adversary.decay": Range(low=0.0, high=1.0)}
    valid = [
        Attempt(n, 1, "valid", float(n), hyperparameters={"rate": 0.1, "adversary.decay": n / 4}) for n in range(4)
    ]
    figure = slices("one", "forget_loss", space, valid, valid[3])
    rate, decay = figure["concat"]
    assert [row["best"] for row in figure["data"]["values"]] == [False, False, False, True]
    x = decay["layer"][0]["encoding"]["x"]
    assert (x["title"], x["scale"]["domain"], "." in x["field"]) == ("adversary.decay", [0.0, 1.0], False)
    assert [row[x["field"]] for row in figure["data"]["values"]] == [0.0, 0.25, 0.5, 0.75]
    assert rate["layer"][0]["encoding"]["x"]["scale"]["type"] == "log"


def test_the_one_that_matters_is_the_most_important():
    draw = random.Random(0)
    space = {
        "no": Range(low=0.0, high=1.0),
        "yes": Range(low=1e-3, high=1.0, log=True),
        "whole": Range(low=1, high=9, int=True),
    }
    valid = []
    for n in range(200):
        chosen = {"no": draw.random(), "yes": 10 ** (-3 * draw.random()), "whole": float(draw.randint(1, 9))}
        valid.append(Attempt(n, 1, "valid", chosen["yes"] + 0.01 * chosen["no"], hyperparameters=chosen))
    for minimise in (False, True):
        found = importances(space, valid, minimise=minimise)
        assert next(iter(found)) == "yes"
        assert found["yes"] > 0.6
        assert sum(found.values()) == pytest.approx(1)


def test_importance_says_how_many_trials_it_looks_at():
    study = SimpleNamespace(id="st", name="one", state="running", preparation=None, spec=presets.load("quickstart"))
    space, draw, valid = parse(study.spec).search_space(), random.Random(0), []
    for n in range(2 * MOST_POINTS):
        chosen = {name: one.low + draw.random() * (one.high - one.low) for name, one in space.items()}
        valid.append(Attempt(n, 1, "valid", draw.random(), hyperparameters=chosen))
    for many, said in ((40, "40"), (2 * MOST_POINTS, f"{MOST_POINTS} of {2 * MOST_POINTS}")):
        source = SimpleNamespace(valid=lambda many=many: valid[:many])
        drawn = of_study.draw(of_study.Name.importance, study, source)
        assert f"best tenth of {said} valid trials apart" in drawn["title"]["subtitle"]


def curve(*losses: float | None) -> Curve:
    return Curve(passes=tuple(range(0, 10 * len(losses), 10)), forget_loss=losses, retain_loss=losses)


def test_curves():
    last = [curve(4.0, 3.0), curve(5.0, None), curve(6.0, 5.0), curve(9.0, 6.0)]
    figure = curves("one", last, curve(9.0, 6.0), None)
    forget, _ = figure["hconcat"]
    band = forget["layer"][0]["data"]["values"]
    low, median, high = np.percentile([4, 5, 6, 9], [25, 50, 75])
    assert band[0] == {"passes": 0, "curve": BAND, "low": low, "median": median, "high": high}
    assert (band[1]["passes"], band[1]["median"]) == (10, 5.0)
    assert [(p["curve"], p["loss"]) for p in forget["layer"][2]["data"]["values"]] == [(BEST, 9.0), (BEST, 6.0)]
    assert forget["layer"][0]["encoding"]["color"]["scale"]["domain"] == [BAND, BEST], "no baseline, no legend of it"
    assert quartiles([2.0]) == {"low": 2.0, "median": 2.0, "high": 2.0}


@pytest.mark.parametrize(("said", "read_as"), [
    ("11.30 ± .95", (11.3, 0.95)),
    ("2.883", (2.883, 0.0)),
    ("none valid", None),
    ("", None),
])  # fmt: skip
def test_published_numbers(said, read_as):
    assert read(said) == read_as


def trace(harmful: float) -> Trace:
    return Trace(
        loop=(0, 1, 2),
        forget_loss=(2.0, 2.5, None),
        retain_loss=(3.0, 3.1, 3.2),
        update_norm=(1.0, 2.0, None),
        harmful=(harmful, harmful, harmful),
    )


def test_dynamics_split_each_update():
    figure = dynamics("masks", [Traced("masked", 3, trace(0.25)), Traced("unmasked", 7, trace(0.5))])
    [masked, unmasked] = figure["hconcat"]
    assert [one["title"]["text"] for one in (masked, unmasked)] == ["masked, trial 3", "unmasked, trial 7"]
    for panel, share in ((masked, 0.25), (unmasked, 0.5)):
        losses, updates = panel["vconcat"]
        parts = {(p["loop"], p["part"]): p["norm"] for p in updates["data"]["values"]}
        assert parts == {(0, HARMLESS): 1 - share, (0, HARMFUL): share,
                         (1, HARMLESS): 2 - 2 * share, (1, HARMFUL): 2 * share}  # fmt: skip
        assert [p["loss"] for p in losses["data"]["values"]] == [2.0, 2.5, 3.0, 3.1, 3.2]
        assert losses["encoding"]["y"]["scale"]["domain"] == [2.0, 3.2]
        assert updates["encoding"]["y"]["scale"]["domain"] == [0.0, 2.0]
    assert b"unmasked, trial 7" in render(figure, "svg").content


def test_times_beside_the_paper_s():
    document = {key: value for key, value in presets.load("ablations-pythia-python").items() if key != "variants"}
    spec = parse(document)
    spent = Tally([3.0], {"valid": 90, "diverged": 10}, seconds=1200.0, passes_booked=60_000)
    figure = times("pythia", [("mudman", spec, spent), ("untried", spec, Tally())])
    table, bars = figure["hconcat"]
    cells = {(c["variant"], c["column"]): c["text"] for c in table["data"]["values"]}
    assert [cells["mudman", column] for column in ("trials", "passes", "time", "per trial", "published")] == [
        "100", "60,000", "20 min", "12 s", "800 in 4 h"
    ]  # fmt: skip
    assert cells["untried", "per trial"] == "–"
    assert [(row["seconds"], row["published seconds"]) for row in bars["data"]["values"]] == [
        (12.0, 18.0),
        (None, 18.0),
    ]
    own = parse(presets.load("quickstart"))
    assert "published" not in figure_columns(times("own", [("mudman", own, spent)]))


def figure_columns(figure: dict) -> set[str]:
    return {cell["column"] for cell in figure["hconcat"][0]["data"]["values"]}


def test_curves_of_several_variants_are_bands():
    def curve(loss: float) -> Curve:
        return Curve(passes=(0, 10), forget_loss=(loss, loss - 1), retain_loss=(3.0, 3.0))

    figure = overlaid("masks", {"a": [curve(5.0), curve(6.0), curve(7.0)], "b": [curve(4.0)]})
    forget = figure["hconcat"][0]["data"]["values"]
    assert {"passes": 10, "variant": "a", "low": 4.5, "median": 5.0, "high": 5.5} in forget
    assert {"passes": 0, "variant": "b", "low": 4.0, "median": 4.0, "high": 4.0} in forget
    many = overlaid("many", {f"v{n}": [curve(5.0)] for n in range(20)})
    assert "12 of 20 variants" in many["title"]["subtitle"]
