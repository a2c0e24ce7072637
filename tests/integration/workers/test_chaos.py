"""A storm of faults over three studies, small here. ``tests/benchmarks/chaos.py`` lets loose the full one."""

import os
import sys

from chaos import Storm
from test_kill import assert_same_search

FAULTS = int(os.environ.get("CHAOS_FAULTS", "6"))
SEED = int(os.environ.get("CHAOS_SEED", "2611"))


def test_a_storm_loses_nothing(site, postgres):
    trials = max(6, FAULTS // 3)
    alone = [site.submit(name=name, trials=trials, seconds=0.6, outcome="mixed") for name in ("one", "two")]
    several = site.submit(name="several", trials=trials, seconds=0.6, outcome="mixed", max_concurrent=2)
    storm = Storm(site, postgres, SEED, FAULTS)
    try:
        storm.rage([*alone, several], within=120 + 2 * FAULTS)
        assert storm.hits >= 0.6 * FAULTS, f"{storm.hits} of {FAULTS} faults found something to hit"
        for study_id in (*alone, several):
            outcomes = storm.check(study_id)
            storm.said.append(f"{study_id}: {dict(outcomes)}")
        for study_id in alone:
            if not (storm.given_up(study_id) or study_id in storm.steered):
                assert_same_search(site, study_id)
    finally:
        sys.stdout.write("\n  ".join([f"storm {SEED}, {FAULTS} faults:", *storm.said]) + f"\n  {storm.hits} hit\n")
