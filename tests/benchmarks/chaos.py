"""The full storm: ``python tests/benchmarks/chaos.py [--faults 200] [--seed 2611]``. Fails if anything is lost.

Real processes, simulated trials; some four seconds a fault. So many faults have found something to hit in the end; what
each one hit is printed.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

TEST = Path(__file__).parents[1] / "integration" / "workers" / "test_chaos.py"

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--seed", type=int, default=2611)
    asked = parser.parse_args()
    storm = {"CHAOS_FAULTS": str(asked.faults), "CHAOS_SEED": str(asked.seed)}
    command = [sys.executable, "-m", "pytest", "-q", "-s", "--timeout", str(300 + 15 * asked.faults), str(TEST)]
    sys.exit(subprocess.run(command, env=os.environ | storm).returncode)
