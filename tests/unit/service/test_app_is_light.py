"""The API process stays light: it answers soon after its start and never loads what only workers need."""

import subprocess
import sys

HEAVY = {"torch", "ray", "transformers", "datasets", "optuna", "alembic", "numpy"}


def test_the_api_imports_nothing_heavy():
    code = "import sys, service.app; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert HEAVY & set(loaded.stdout.split()) == set()
