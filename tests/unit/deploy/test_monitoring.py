"""Rules and board name only what the API says, and are what Prometheus and Grafana read."""

import json
import re
from decimal import Decimal
from itertools import chain
from pathlib import Path

import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from service.metrics import Metrics, condition, families
from service.store.database import Database
from service.store.gauges import Gauges, Held, Leases, Nodes, Queue, Usage
from service.store.states import State

FOLDER = Path(__file__).parents[3] / "deploy" / "monitoring"
RULES = [rule for group in yaml.safe_load((FOLDER / "rules.yaml").read_text())["groups"] for rule in group["rules"]]
BOARD = json.loads((FOLDER / "grafana" / "dashboards" / "mudman.json").read_text())
SHOWN = [target["expr"].replace("$__rate_interval", "1m") for panel in BOARD["panels"] for target in panel["targets"]]
EXPRESSIONS = [rule["expr"] for rule in RULES] + SHOWN


def selectors(node) -> list:
    """Every selector of a parsed expression."""
    if isinstance(node, promql_parser.VectorSelector):
        return [node]
    if isinstance(node, promql_parser.MatrixSelector):
        return [node.vector_selector]
    parts = [getattr(node, name, None) for name in ("expr", "lhs", "rhs", "param")]
    return [found for part in [*parts, *getattr(node, "args", [])] if part is not None for found in selectors(part)]


@pytest.fixture(scope="module")
def said() -> dict[str, list[dict[str, str]]]:
    """Every sample of a scrape of a system in which everything occurs: labels by name."""
    from prometheus_client import CollectorRegistry, generate_latest

    metrics = Metrics(Database("postgresql://nobody@127.0.0.1:1/none"), dispatcher_lives=10)
    metrics.observe("GET", "/studies", 500, 0.1, ValueError())
    read = Gauges(
        studies=dict.fromkeys(State, 1),
        queue=Queue(1.0),
        leases=Leases(1, 1, 1, 1, 1, 1.0),
        owners=["ann"],
        usage=[Usage("ann", "valid", *map(Decimal, (1, 1, 1, 1)))],
        held=[Held("ann", 1.0, 1.0)],
        live_trials=1,
        nodes=Nodes(1, 1, 1, 1.0, 1.0),
        dispatchers=1,
        dispatcher_age=1.0,
    )

    class Everything:
        def describe(self):
            return []

        def collect(self):
            return chain(condition(), families(read))

    whole = CollectorRegistry()
    whole.register(Everything())
    text = generate_latest(metrics.registry).decode() + generate_latest(whole).decode()
    found: dict[str, list[dict[str, str]]] = {"up": [{"job": "mudman"}]}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample.labels)
    return found


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_asks_for_what_is_said(said, expression):
    asked = selectors(promql_parser.parse(expression))
    assert asked
    for selector in asked:
        assert selector.name in said, selector.name
        for matcher in selector.matchers.matchers:
            values = {labels.get(matcher.name) for labels in said[selector.name]}
            assert None not in values, f"{selector.name} has no label {matcher.name}"
            if matcher.op in (promql_parser.MatchOp.Equal, promql_parser.MatchOp.Re):
                wanted = matcher.value.split("|") if matcher.op == promql_parser.MatchOp.Re else [matcher.value]
                assert set(wanted) <= values, f"{selector.name}: no {matcher.name} is {matcher.value}"


def test_labels_that_are_kept_or_shown_exist(said):
    every = {label for labels in said.values() for one in labels for label in one}
    named = {name for text in EXPRESSIONS for group in re.findall(r"by \((.*?)\)", text) for name in group.split(", ")}
    legends = {
        name
        for panel in BOARD["panels"]
        for t in panel["targets"]
        for name in re.findall(r"{{(\w+)}}", t["legendFormat"])
    }
    assert named | legends <= every


def test_every_alert_says_what_to_do():
    assert len({rule["alert"] for rule in RULES}) == len(RULES) >= 11
    for rule in RULES:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"].keys() == {"summary", "description"}


def test_the_board_shows_each_thing_in_a_place_of_its_own():
    places = set()
    for panel in BOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & places
        assert at["x"] + at["w"] <= 24
        places |= cells
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])


def test_what_is_mounted_is_there():
    source = yaml.safe_load((FOLDER / "grafana" / "datasources" / "prometheus.yaml").read_text())["datasources"][0]
    assert {panel["datasource"]["uid"] for panel in BOARD["panels"]} == {source["uid"]}
    compose = yaml.safe_load((FOLDER.parent / "compose.monitoring.yaml").read_text())["services"]
    for service in ("prometheus", "grafana"):
        for volume in compose[service]["volumes"]:
            if volume.startswith("./"):
                assert (FOLDER.parents[1] / volume.split(":")[0]).exists()
        assert all(port.startswith("127.0.0.1:") for port in compose[service]["ports"])
        assert re.search(r":v?\d+\.\d+\.\d+$", compose[service]["image"])
    assert source["url"] == "http://prometheus:9090"
