"""TF32 on a CPU: which numbers are rounded, and how, in convolutions and matrix products forward and backward."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from conftest import ROOT

sys.path.append(str(ROOT / "scripts"))
from gpu.tf32 import EmulatedTF32, rounded


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def exact(values: Tensor) -> Tensor:
    """The rounded values in float64, in which products of them are exact."""
    return rounded(values).double()


def test_ten_bits_of_mantissa_are_kept_and_halves_become_even() -> None:
    unit = 2.0**-10  # the last bit kept of numbers from 1 to 2
    found = {
        1 + unit: 1 + unit,
        1 + unit / 2: 1.0,  # half way, and 1 is even
        1 + 3 * unit / 2: 1 + 2 * unit,  # half way, and 1 + unit is odd
        1 + unit / 2 + 2.0**-20: 1 + unit,
        1 + unit / 2 - 2.0**-20: 1.0,
        2 - unit / 4: 2.0,  # carries into the exponent
        -(1 + 3 * unit / 2): -(1 + 2 * unit),
        0.0: 0.0,
        3.4e38: rounded(torch.tensor(3.4e38)).item(),
        3.4028234e38: float("inf"),
        float("inf"): float("inf"),
        float("-inf"): float("-inf"),
    }
    assert rounded(torch.tensor(list(found))).tolist() == list(found.values())
    assert rounded(torch.tensor(float("nan"))).isnan()
    # A not-a-number whose payload lies in the dropped bits alone stays one.
    assert rounded(torch.tensor([0x7F800001], dtype=torch.int32).view(torch.float32)).isnan().all()
    values = normal(1000)
    assert ((rounded(values) - values).abs() <= values.abs() * 2.0**-11).all()
    assert (rounded(values).view(torch.int32) & 0x1FFF == 0).all()
    assert torch.equal(rounded(values.double()), values.double())
    laid = normal(2, 3, 4, 5, 6).to(memory_format=torch.channels_last_3d)
    assert rounded(laid).is_contiguous(memory_format=torch.channels_last_3d)


def test_a_convolution_multiplies_rounded_numbers_forward_and_backward() -> None:
    x, weight, bias = normal(2, 3, 4, 6, 6).requires_grad_(), normal(5, 3, 3, 3, 3, seed=1), normal(5, seed=2) * 100
    back = normal(2, 5, 4, 6, 6, seed=3)
    with EmulatedTF32():
        y = functional.conv3d(x, weight, bias, padding=1)
        (gradient,) = torch.autograd.grad(y, x, back)
    wanted = functional.conv3d(exact(x), exact(weight), bias.double(), padding=1)
    assert torch.allclose(y.double(), wanted, rtol=1e-6, atol=1e-4)  # the sum has the bias, which is not rounded
    assert (y.double() - functional.conv3d(x.double(), weight.double(), bias.double(), padding=1)).abs().max() > 1e-3
    wanted = functional.conv_transpose3d(exact(back), exact(weight), padding=1)
    assert torch.allclose(gradient.double(), wanted, atol=1e-5)
    assert not torch.allclose(
        gradient.double(), functional.conv_transpose3d(back.double(), weight.double(), padding=1), atol=1e-4
    )


@pytest.mark.parametrize("name", ["linear", "matmul", "bmm", "baddbmm"])
def test_a_matrix_product_does_too(name: str) -> None:
    a, b, c = normal(4, 7, 9).requires_grad_(), normal(4, 9, 6, seed=1), normal(6, seed=2)
    product = {
        "linear": lambda a, b, c: functional.linear(a, b[0].mT, c),
        "matmul": lambda a, b, c: a[0] @ b[0],
        "bmm": lambda a, b, c: torch.bmm(a, b),
        "baddbmm": lambda a, b, c: torch.baddbmm(c, a, b),
    }[name]
    with EmulatedTF32():
        y = product(a, b, c)
        back = normal(*y.shape, seed=3)
        (gradient,) = torch.autograd.grad(y, a, back)
    twin = exact(a).detach().requires_grad_()
    wanted = product(twin, exact(b), c.double())
    assert torch.allclose(y.double(), wanted, atol=1e-5)
    assert not torch.allclose(y.double(), product(a.double(), b.double(), c.double()), atol=1e-4)
    assert torch.allclose(gradient.double(), torch.autograd.grad(wanted, twin, exact(back))[0], atol=1e-5)


def test_other_operations_keep_all_bits_and_fused_attention_is_refused() -> None:
    x, double = normal(1, 2, 4, 8), normal(4, 8).double()
    wanted = x * (x + 1), double @ double.mT, x.softmax(3)
    with EmulatedTF32():
        found = x * (x + 1), double @ double.mT, x.softmax(3)
        with pytest.raises(NotImplementedError, match="matrix products are inside"):
            functional.scaled_dot_product_attention(x, x, x)
    assert all(torch.equal(*pair) for pair in zip(found, wanted, strict=True))
