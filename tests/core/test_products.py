"""oneDNN's products in the place of torch's: the same numbers, and torch's own again afterwards."""

import itertools

import pytest
import torch
from live_memory import LiveMemory
from torch.nn.attention import SDPBackend, sdpa_kernel

from mudman import products
from mudman.attention import SHORT
from mudman.faults import SpecError
from mudman.precision import computing
from mudman.products import fast_products
from mudman.specs import ModelSpec

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def wherever(monkeypatch):
    """On every machine, whether MKL is slow there or not."""
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this torch has no oneDNN")
    monkeypatch.setattr(products, "mkl_is_slow", lambda: True)


def factors(*shape: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(*pair, generator=generator) for pair in itertools.pairwise(shape)]


@pytest.mark.parametrize("layout", ["as they lie", "left transposed", "right transposed", "both transposed"])
def test_products_are_the_same_whatever_the_layout(layout):
    a, b = factors(70, 50, 90)
    a = a.T.contiguous().T if layout in ("left transposed", "both transposed") else a
    b = b.T.contiguous().T if layout in ("right transposed", "both transposed") else b
    expected = a.double() @ b.double()
    with fast_products():
        torch.testing.assert_close((a @ b).double(), expected, rtol=1e-5, atol=1e-5)
        biased = torch.addmm(torch.arange(90.0), a, b)
    torch.testing.assert_close(biased.double(), expected + torch.arange(90), rtol=1e-5, atol=1e-5)


def test_a_linear_layer_and_all_its_gradients():
    torch.manual_seed(0)
    layer, x = torch.nn.Linear(48, 64), torch.randn(5, 20, 48, requires_grad=True)

    def run() -> list[torch.Tensor]:
        y = layer(x)
        return [y.detach(), *torch.autograd.grad(y.square().sum(), [x, layer.weight, layer.bias])]

    plain = run()
    with fast_products():
        fast = run()
    for ours, theirs in zip(fast, plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.int64, torch.float16])
def test_other_types_and_odd_shapes_are_left_to_torch(dtype):
    a, b = (torch.arange(64 * 64).reshape(64, 64).remainder(7).to(dtype) for _ in range(2))
    expected, empty = a @ b, a[:0] @ b
    with fast_products():
        assert torch.equal(a @ b, expected) and (a @ b).dtype == dtype
        assert (a[:0] @ b).shape == empty.shape
        assert torch.equal(torch.addmm(a, a, b, beta=2), 2 * a + expected)
        assert torch.equal(torch.addmm(a.float(), a.float(), b.float(), alpha=3), a.float() + 3 * expected.float())


def test_torch_has_its_own_products_back_whatever_is_raised():
    a, b = factors(200, 300, 250)
    before = a @ b
    with pytest.raises(ZeroDivisionError), fast_products():
        with fast_products(torch.bfloat16):  # entered again: as it was entered first
            assert products.lower() is None
        assert products._inside
        raise ZeroDivisionError
    assert not products._inside
    assert torch.equal(a @ b, before)


@pytest.mark.skipif(not products.has_bfloat16(), reason="this processor has no products in bfloat16")
def test_bfloat16_rounds_the_factors_alone():
    a, b = factors(70, 50, 90)
    rounded = a.bfloat16().double() @ b.bfloat16().double()
    with computing(ModelSpec(id="model", compute="bfloat16"), CPU):
        product = a @ b
        tail = torch.tensor([[1.0, 2.0**-20]]) @ torch.ones(2, 1)
    assert product.dtype == torch.float32
    assert 1e-4 < (product.double() - a.double() @ b.double()).abs().max() < 0.2
    torch.testing.assert_close(product.double(), rounded, rtol=1e-2, atol=1e-1)
    assert tail.item() == 1 + 2.0**-20, "small products are not worth it"


@pytest.mark.skipif(not products.has_bfloat16(), reason="this processor has no products in bfloat16")
@pytest.mark.parametrize("frozen", [False, True], ids=["trained", "frozen"])
def test_a_linear_layer_rounds_what_its_products_round(frozen):
    torch.manual_seed(0)
    layer, x = torch.nn.Linear(48, 64).requires_grad_(not frozen), torch.randn(5, 20, 48, requires_grad=True)
    rounded = [t.detach().bfloat16().float() for t in (x.flatten(0, 1), layer.weight)]
    with computing(ModelSpec(id="model", compute="bfloat16"), CPU):
        y = layer(x)
        wanted = [x] if frozen else [x, layer.weight, layer.bias]
        gradients = torch.autograd.grad(y.square().sum(), wanted)
    expected = (rounded[0] @ rounded[1].t()).bfloat16().float() + layer.bias.detach()
    assert y.dtype == torch.float32 and torch.equal(y.detach().flatten(0, 1), expected)
    up = (2 * expected).bfloat16().float()
    products_of_it = (up @ rounded[1], up.t() @ rounded[0], 2 * expected.sum(0))
    for ours, theirs in zip(gradients, products_of_it, strict=False):
        torch.testing.assert_close(ours.reshape(theirs.shape), theirs, rtol=1e-2, atol=1e-2 * theirs.abs().max().item())


@pytest.mark.skipif(not products.has_bfloat16(), reason="this processor has no products in bfloat16")
def test_a_rounded_layer_has_second_derivatives():
    x, weight = (torch.randn(64, 64, generator=torch.Generator().manual_seed(4)).requires_grad_(True) for _ in range(2))

    def second() -> torch.Tensor:
        [first] = torch.autograd.grad(torch.nn.functional.linear(x, weight).square().sum(), x, create_graph=True)
        return torch.autograd.grad(first.sum(), weight)[0]

    exact = second()
    with computing(ModelSpec(id="model", compute="bfloat16"), CPU):
        rounded = second()
    torch.testing.assert_close(rounded, exact, rtol=0.02, atol=0.02 * exact.abs().max().item())


@pytest.mark.skipif(not products.has_bfloat16(), reason="this processor has no products in bfloat16")
def test_a_backward_sees_a_weight_that_was_changed_after_the_forward():
    x, weight = (torch.randn(64, 64, requires_grad=True) for _ in range(2))
    with computing(ModelSpec(id="model", compute="bfloat16"), CPU):
        y = torch.nn.functional.linear(x, weight)
        [before] = torch.autograd.grad(y.sum(), x, retain_graph=True)
        weight.data.mul_(2)
        [after] = torch.autograd.grad(y.sum(), x)
    assert torch.equal(after, 2 * before)


@pytest.mark.skipif(not products.has_bfloat16(), reason="this processor has no products in bfloat16")
@pytest.mark.parametrize("mask", ["none", "causal", "boolean", "added", "grouped", "long", "nothing allowed"])
def test_attention_in_bfloat16_is_torchs_within_its_rounding(mask):
    generator = torch.Generator().manual_seed(2)
    tokens = 300 if mask == "long" else 40
    q, k, v = (
        torch.randn(2, heads, tokens, 16, generator=generator, requires_grad=True)
        for heads in ((4, 2, 2) if mask == "grouped" else (4, 4, 4))
    )
    allowed = torch.rand(2, 1, tokens, tokens, generator=generator) > 0.3
    allowed[..., 0] = True
    if mask == "nothing allowed":
        allowed[:, :, 0] = False
    settings = {
        "causal": {"is_causal": True},
        "long": {"is_causal": True},
        "boolean": {"attn_mask": allowed, "scale": 0.3},
        "added": {"attn_mask": torch.where(allowed, 0.0, -1e4)},
        "grouped": {"enable_gqa": True},
        "nothing allowed": {"attn_mask": allowed},
    }.get(mask, {})

    def run() -> list[torch.Tensor]:
        y = torch.nn.functional.scaled_dot_product_attention(q, k, v, **settings)
        y = y[:, :, 1:] if mask == "nothing allowed" else y  # torch says 0 there, and nobody looks
        return [y, *torch.autograd.grad(y.square().sum(), (q, k, v))]

    exact = run()
    with computing(ModelSpec(id="model", compute="bfloat16"), CPU):
        rounded = run()
    assert all(part.isfinite().all() for part in rounded)
    for ours, theirs in zip(rounded, exact, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0.05, atol=0.05)
    assert mask == "long" or not torch.equal(rounded[0], exact[0])


@pytest.mark.skipif(not products.has_bfloat16(), reason="this processor has no products in bfloat16")
@pytest.mark.parametrize("grouped", [False, True], ids=["own", "grouped"])
def test_scores_of_a_long_sequence_are_never_formed_whole(grouped):
    tokens, heads = 2 * SHORT, 4
    factors = [torch.randn(1, n, tokens, 16, requires_grad=True) for n in (heads, *[2 if grouped else heads] * 2)]
    with computing(ModelSpec(id="model", compute="bfloat16"), CPU), LiveMemory(factors) as memory:
        y = torch.nn.functional.scaled_dot_product_attention(*factors, is_causal=True, enable_gqa=grouped)
        torch.autograd.grad(y.sum(), factors)
    assert memory.peak < 4 * heads * tokens**2


@pytest.mark.skipif(not products.has_bfloat16(), reason="this processor has no products in bfloat16")
def test_attention_over_a_long_sequence_has_second_derivatives_where_they_are_asked_for():
    q, k, v = (torch.randn(1, 2, SHORT + 10, 16, requires_grad=True) for _ in range(3))

    def second() -> torch.Tensor:
        with sdpa_kernel(SDPBackend.MATH):
            y = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        [first] = torch.autograd.grad(y.square().sum(), q, create_graph=True)
        return torch.autograd.grad(first.sum(), k)[0]

    exact = second()
    with computing(ModelSpec(id="model", compute="bfloat16"), CPU):
        torch.testing.assert_close(second(), exact, rtol=1e-3, atol=1e-4)


def test_what_a_device_cannot_is_refused(monkeypatch):
    with pytest.raises(SpecError, match="tf32 is a type of GPUs"), computing(ModelSpec(id="m", compute="tf32"), CPU):
        pass
    monkeypatch.setattr("mudman.precision.has_bfloat16", lambda: False)
    with pytest.raises(SpecError, match="no products in bfloat16"):
        computing(ModelSpec(id="m", compute="bfloat16"), CPU).__enter__()
    with pytest.raises(ValueError, match="compute is for models in float32"):
        ModelSpec(id="m", dtype="bfloat16", compute="bfloat16")
