"""Multiply-adds are counted without a pass, as torch counts them, and without torch's compiler."""

from __future__ import annotations

import re
import subprocess
import sys
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from conftest import ROOT

sys.path.append(str(ROOT / "scripts"))
from small_networks import SMALL, config, small_network
from vidattr.cluster.multiply_adds import MultiplyAdds, blank, is_blank

KINDS = [name for name in SMALL if not name.startswith("hf: ")]
PAGE = (ROOT / "docs" / "NETWORKS.md").read_text("utf-8")


def by_torch(module: nn.Module, size: tuple[int, ...]) -> float:
    """Returns the multiply-adds that torch's counter finds on the device without storage."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        deepcopy(module).to("meta")(torch.empty(size, device="meta"))
    return counter.get_total_flops() / 2


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_of_network_is_counted_as_torch_counts_it(name: str) -> None:
    network = small_network(name)
    size = (2, 3, network.view.frames, *network.view.size)
    with MultiplyAdds() as counter, torch.no_grad():
        found = network.module(blank(size))
    assert counter.count == by_torch(network.module, size) > 0
    assert found.shape == (2, len(network.classes))


@pytest.mark.parametrize(
    "name",
    ["r3d_18", "swin3d_t", "ucf50_lrcn", "slowfast_r50_8x8", "timesformer", "s3d", "mvit_v2_s", "vgg16lstm", "tsm_r50"],
)
def test_a_network_that_is_built_without_weights_has_the_number_of_the_page(name: str) -> None:
    row = re.search(rf"^\| `{name}` \|[^|]+\|[^|]+\|[^|]+\|[^|]+\| ([\d.]+) \|", PAGE, re.M)
    assert row is not None
    model = config("model", name, weights="random")
    with MultiplyAdds() as counter, torch.no_grad():
        network = model.load()
        assert all(is_blank(weight) for weight in network.module.parameters() if weight.ndim == 5)
        counter.count = 0
        network.module(blank((1, 3, model.input.frames, *model.input.size)))
    assert f"{counter.count / 1e9:.2f}" == row[1]


def lstm(x: Tensor) -> Tensor:
    return nn.LSTM(5, 4, num_layers=2, batch_first=True)(x)[0]


@pytest.mark.parametrize(
    ("work", "size", "expected"),
    [
        (lambda x: functional.conv3d(x, torch.ones(8, 1, 3, 3, 3), None, 2, 1, 1, 4), (2, 4, 5, 7, 9), 2 * 8 * 60 * 27),
        (lambda x: functional.conv2d(x, torch.ones(5, 4, 3, 1), dilation=(2, 1)), (2, 4, 9, 7), 2 * 5 * 5 * 7 * 12),
        (lambda x: functional.conv1d(x, torch.ones(5, 4, 3), padding="same"), (2, 4, 9), 2 * 5 * 9 * 12),
        (lambda x: functional.conv_transpose3d(x, torch.ones(4, 3, 2, 2, 2), stride=2), (1, 4, 2, 3, 3), 18 * 8 * 12),
        (lambda x: functional.linear(x, torch.ones(7, 5), torch.ones(7)), (2, 3, 5), 2 * 3 * 5 * 7),
        (lambda x: x @ x.mT, (2, 3, 5), 2 * 3 * 3 * 5),
        (lambda x: torch.einsum("bij,bkj->bik", x, x), (2, 3, 5), 2 * 3 * 3 * 5),
        (lambda x: functional.scaled_dot_product_attention(x, x, x), (2, 3, 4, 8), 2 * 2 * 3 * 4 * 4 * 8),
        (lambda x: functional.max_pool3d(x.relu(), 2, ceil_mode=True), (2, 4, 5, 7, 9), 0),
        (lambda x: functional.adaptive_avg_pool3d(functional.layer_norm(x, (7, 9)), (1, 2, 2)), (2, 4, 5, 7, 9), 0),
        (lambda x: torch.cat([x, functional.gelu(x) / 2, x[:, :1]], 1).softmax(-1), (2, 4, 5), 0),
        (lambda x: (x.clone().add_(1) > 0).double() * torch.zeros_like(x).sigmoid_(), (2, 4, 5), 0),
        (lambda x: functional.pad(x, (1, 2)).flatten(1).mean(1, keepdim=True), (2, 4, 5), 0),
        (lstm, (2, 3, 5), 2 * 3 * 4 * 4 * (5 + 4) + 2 * 3 * 4 * 4 * (4 + 4)),
    ],
)  # fmt: skip
def test_results_have_the_shape_and_type_of_the_real_ones(work: object, size: tuple[int, ...], expected: int) -> None:
    with torch.no_grad():
        real = work(torch.ones(size))  # type: ignore[operator]
        with MultiplyAdds() as counter:
            found = work(blank(size))  # type: ignore[operator]
    assert (found.shape, found.dtype) == (real.shape, real.dtype)
    assert counter.count == expected


def test_nothing_is_stored_for_what_is_blank() -> None:
    with MultiplyAdds() as counter, torch.no_grad():
        network = nn.Sequential(nn.Conv3d(3, 10**5, 3, padding=1), nn.BatchNorm3d(10**5), nn.ReLU(), nn.MaxPool3d(3, 2))
        found = network.eval()(blank((100, 3, 64, 512, 512)))
    assert counter.count == 100 * 10**5 * 64 * 512 * 512 * 81
    assert found.shape == (100, 10**5, 31, 255, 255)
    assert found.untyped_storage().nbytes() == 4


def test_the_count_imports_no_compiler() -> None:
    script = """
import sys, torch
from vidattr.cluster.multiply_adds import MultiplyAdds, blank
with MultiplyAdds() as counter, torch.no_grad():
    network = torch.nn.Sequential(torch.nn.Conv3d(3, 4, 3), torch.nn.BatchNorm3d(4), torch.nn.ReLU())
    network.eval()(blank((1, 3, 4, 8, 8)))
print(counter.count, {"sympy", "torch._dynamo", "torch._inductor"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(4 * 2 * 6 * 6 * 81), "set()"]
