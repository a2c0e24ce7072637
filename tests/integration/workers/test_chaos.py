"""A storm of faults over three studies, small here. ``tests/benchmarks/chaos.py`` lets loose the full one."""

import os
import sys

import pytest
from chaos import Storm
from clusters import QUICK, cluster
from test_comparison_runs import submit
from test_kill import assert_same_search

FAULTS = int(os.environ.get("CHAOS_FAULTS", "9"))
SEED = int(os.environ.get("CHAOS_SEED", "2611"))
FULL = FAULTS > 20
"""Nodes die only then: each takes as long to be missed, and to join, as many other faults."""


@pytest.fixture(scope="module")
def ray_head():
    with cluster() as one:
        one.head("--num-cpus", "2", **QUICK)
        yield one


def test_a_storm_loses_nothing(site, postgres, make_spec, ray_head):
    usual = {"trials": max(6, FAULTS // 3), "seconds": 0.6, "outcome": "mixed", "max_silence": 6.0}
    alone = site.submit(name="alone", **usual)
    variants = {"narrow": {"labels.a": "b"}, "wide": {"resources.max_concurrent": 2}}
    compared = submit(site, make_spec(name="compared", **usual), variants)
    exact, raging = [alone, compared["narrow"]], [alone, compared["narrow"], compared["wide"]]
    storm = Storm(site, postgres, SEED, FAULTS, cluster=ray_head if FULL else None)
    try:
        storm.rage(raging, within=120 + 2 * FAULTS)
        for study_id in raging:
            outcomes = storm.check(study_id)
            storm.said.append(f"{study_id}: {dict(outcomes)}")
        for study_id in exact:
            if not (storm.given_up(study_id) or study_id in storm.steered):
                assert_same_search(site, study_id)
    finally:
        hits = ", ".join(f"{count} {kind}" for kind, count in storm.hits.most_common())
        sys.stdout.write("\n  ".join([f"storm {SEED}, {FAULTS} faults:", *storm.said]) + f"\n  hit: {hits}\n")
