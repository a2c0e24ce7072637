"""A whole trial on the fast paths against the same trial without them: losses agree."""

import pytest
import torch

from mudman import bench, presets, products, run_trial
from mudman.specs import parse

CHANGES = {"budget.unlearn_passes": 50, "attack.passes": 20, "attack.check_every": 10, "constraint": None}


def losses(compute: str | None = None) -> list[float]:
    for kept in (bench._loaded, bench._benches, bench._evaluated):  # the first point is measured by each side too
        kept.clear()
    spec = parse(presets.load("quickstart", {**CHANGES, "model.compute": compute}))
    result = run_trial(spec, {path: space.middle() for path, space in spec.search_space().items()})
    assert result.outcome == "valid", result.fault
    curves = (result.unlearning, result.relearning)
    return [loss for curve in curves for part in (curve.forget_loss, curve.retain_loss) for loss in part]


@pytest.fixture(scope="module")
def slowly():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, "mkl_is_slow", lambda: False)
        for place in ("mudman.passes", "mudman.head"):
            patch.setattr(f"{place}.has_plain_head", lambda model: False)
        return losses()


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")
def test_exact(slowly, monkeypatch):
    monkeypatch.setattr(products, "mkl_is_slow", lambda: True)  # whatever this machine's processor is
    assert max(slowly) - min(slowly) > 0.05, "something was unlearned"
    assert losses() == pytest.approx(slowly, rel=1e-3)


@pytest.mark.skipif(not products.has_bfloat16(), reason="this processor has no products in bfloat16")
def test_fast(slowly):
    assert losses("bfloat16") == pytest.approx(slowly, rel=1e-2)
