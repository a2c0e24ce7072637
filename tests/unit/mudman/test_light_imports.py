"""The vocabulary is what the API and the dispatcher import: it must stay light."""

import subprocess
import sys

import pytest

LIGHT = ["mudman", "mudman.specs", "mudman.presets", "mudman.registry", "mudman.results", "mudman.simulation",
         "mudman.documents"]  # fmt: skip


@pytest.mark.parametrize("heavy", [["torch", "transformers", "datasets", "huggingface_hub", "numpy", "ray"]])
def test_the_vocabulary_imports_nothing_heavy(heavy):
    code = f"import sys, {', '.join(LIGHT)}\nprint([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_simulated_trial_imports_no_torch():
    code = (
        "import sys, mudman\nfrom mudman import presets, specs\n"
        "spec = specs.parse(presets.load('quickstart', {'model.id': 'simulated'}))\n"
        "values = {name: space.middle() for name, space in spec.search_space().items()}\n"
        "print(mudman.run_trial(spec, values).outcome, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["valid", "False"]


def test_the_package_names_its_three_functions_only():
    code = "import mudman\ntry:\n    mudman.train\nexcept AttributeError as error:\n    print(error)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "no attribute 'train'" in done.stdout
