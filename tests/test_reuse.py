"""The first steps of a network on crops: the same numbers as whole passes give, for less work."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool3d, max_pool3d
from torchvision.models.video import VideoResNet, mc3_18, r2plus1d_18, r3d_18

import toys
from vidattr.methods.occlusion import occlude
from vidattr.methods.occlusion import reuse as _reuse
from vidattr.methods.occlusion.occlude import Replacement
from vidattr.methods.occlusion.osa import OSA, CuboidGrid
from vidattr.methods.occlusion.tubes import union_mask
from vidattr.models import mfnet, resnet3d
from vidattr.models.c3d_light import C3DLight
from vidattr.models.mfnet import MFNet3D
from vidattr.models.network.network import VideoModel
from vidattr.models.r2plus1d_light import R2Plus1DLight
from vidattr.models.resnet3d import Convolution, ResNet3D
from vidattr.models.speed.prefix import Prefix
from vidattr.models.tiny_r2plus1d import R2Plus1D
from vidattr.types import Query


class Headed(nn.Module):
    """Local steps, and a head that does not forget where its inputs were."""

    def __init__(self) -> None:
        super().__init__()
        self.build()
        self.fc = nn.Linear(4, len(toys.CLASSES))
        toys.reset(self)

    def build(self) -> None:
        raise NotImplementedError

    def local(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, frames: Tensor) -> Tensor:
        x = self.local(frames)
        return self.fc(x.cumsum(3).square().cumsum(4).sin().mean((2, 3, 4)))


class Branches(Headed):
    """Branches side by side, an overlapping and a ragged pool, a gap, and a stride that jumps over inputs."""

    def build(self) -> None:
        self.stem = nn.Sequential(nn.Conv3d(3, 4, (1, 5, 7), (1, 2, 1), (0, 2, 3)), nn.BatchNorm3d(4), nn.ReLU())
        self.narrow, self.wide = nn.Conv3d(4, 2, 1), nn.Conv3d(4, 2, 3, padding=2, dilation=2)
        self.jump = nn.Conv3d(4, 4, 1, stride=(1, 2, 3))
        self.ragged = nn.MaxPool3d((1, 2, 2), ceil_mode=True)
        self.valid = nn.Conv3d(4, 4, (1, 2, 1))

    def local(self, x: Tensor) -> Tensor:
        x = max_pool3d(self.stem(x), (1, 3, 3), stride=(1, 1, 2), padding=(0, 1, 1))
        x = torch.cat([self.narrow(x), torch.relu(self.wide(x))], 1)
        return self.valid(self.ragged(self.jump(x)))


class Shortcut(Headed):
    """A strided block beside a projection, after a pool that has no convolution before it."""

    def build(self) -> None:
        self.stem = nn.Conv3d(3, 4, 3, padding=1)
        self.first, self.second = nn.Conv3d(4, 4, 3, (1, 2, 2), 1), nn.Conv3d(4, 4, 3, padding=1)
        self.project = nn.Conv3d(4, 4, 1, (1, 2, 2))

    def local(self, x: Tensor) -> Tensor:
        x = self.stem(avg_pool3d(x, (1, 2, 2)) * 3)
        return torch.tanh(self.second(torch.relu(self.first(x))) + self.project(x))


def light(size: tuple[int, ...], channels_last: bool = True, **names: object) -> VideoModel:
    """The light R(2+1)D with random weights."""
    memory = torch.channels_last_3d if channels_last else torch.contiguous_format
    return toys.network(toys.reset(R2Plus1DLight(len(toys.CLASSES))), size=size, memory_format=memory, **names)


def boxes(size: tuple[int, ...], box: tuple[int, int, int]) -> Tensor:
    """Returns boxes (A, 1, T, 4) at and between the borders on each axis, some cut by a border, and an empty one."""
    spans = []
    for length, side in zip(size[1:], box, strict=True):
        starts = {0, 1 - side, 1, length // 3, length // 2, length - side, length - side + 1, length - 1}
        spans.append(
            sorted(
                (max(0, start), min(length, start + side)) for start in starts if start < length and start + side > 0
            )
        )
    tables = [torch.zeros(size[1], 4)]
    order = torch.Generator().manual_seed(3)
    every = list(itertools.product(*spans))
    for i in torch.randperm(len(every), generator=order)[:14].tolist():
        frames, rows, columns = every[i]
        tables.append(torch.zeros(size[1], 4))
        tables[-1][slice(*frames)] = torch.tensor([*rows, *columns], dtype=torch.float32)
    return torch.stack(tables)[:, None].to(torch.int16)


def agree(model: VideoModel, size: tuple[int, ...], box: tuple[int, int, int], depth: int) -> None:
    """Asserts that at least `depth` steps run on crops, and that the logits are those of whole passes."""
    query = toys.query(2, size=size)
    fills = toys.seeded(1, 2, *size, seed=9)
    begun = _reuse.reuse(model, query.frames, fills, box)
    assert begun is not None
    assert len(begun.levels) >= depth
    for part in boxes(size, box).split(8):
        clip = torch.arange(len(part)) % 2
        mask = union_mask(part, size[2:])  # type: ignore[arg-type]
        expected = model(torch.where(mask[:, None], fills[0, clip], query.frames[clip]))
        found = begun.logits(clip, torch.zeros_like(clip), part)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert (expected[0] - expected[1]).abs().max() > 1e-9


@pytest.mark.parametrize("box", [(1, 1, 1), (2, 3, 2), (1, 4, 5)])
@pytest.mark.parametrize("size", [(3, 4, 16, 24), (3, 5, 23, 17), (3, 1, 18, 31), (3, 7, 13, 14)])
@pytest.mark.parametrize("make", [Branches, Shortcut])
def test_all_steps_on_crops_of_any_share(
    make: Callable[[], nn.Module], size: tuple[int, ...], box: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_reuse, "_SHARE", math.inf)
    agree(toys.network(make(), size=size, max_batch=5), size, box, depth=2)


@torch.no_grad()
def random_statistics(module: nn.Module) -> nn.Module:
    """Makes normalisation do something."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm3d):
            part.running_mean.copy_(toys.seeded(part.num_features) / 10)  # type: ignore[union-attr]
            part.running_var.copy_(toys.seeded(part.num_features, seed=8).abs() + 0.5)  # type: ignore[union-attr]
    return module


PROJECTS_OWN = [
    pytest.param(lambda: C3DLight(4), (3, 9, 33, 47), (2, 5, 5), 2, id="c3d_light"),
    pytest.param(lambda: R2Plus1DLight(4), (3, 10, 31, 40), (3, 4, 4), 2, id="r2plus1d_light"),
    pytest.param(lambda: R2Plus1D(4), (3, 8, 64, 56), (2, 6, 6), 3, id="tiny_r2plus1d"),
    pytest.param(lambda: ResNet3D(4, Convolution.r3d, 18), (3, 8, 45, 64), (2, 4, 4), 1, id="r3d"),
    pytest.param(lambda: ResNet3D(4, Convolution.r2plus1d, 50), (3, 6, 61, 64), (2, 4, 4), 2, id="r2p1d50"),
    pytest.param(lambda: MFNet3D(4), (3, 5, 62, 63), (2, 6, 6), 2, id="mfnet"),
]


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize(("make", "size", "box", "depth"), PROJECTS_OWN)
def test_networks_of_this_project(
    make: Callable[[], nn.Module],
    size: tuple[int, ...],
    box: tuple[int, int, int],
    depth: int,
    folded: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resnet3d, "_WIDTHS", (4, 4, 6, 6))  # thin, to save time
    monkeypatch.setattr(mfnet, "_WIDTH", 64)
    model = toys.network(random_statistics(toys.reset(make())), size=size, memory_format=torch.channels_last_3d)
    agree(model.fold() if folded else model, size, box, depth)


@pytest.mark.parametrize(
    ("make", "size"), [(r3d_18, (3, 2, 30, 37)), (mc3_18, (3, 2, 32, 31)), (r2plus1d_18, (3, 2, 35, 28))]
)
def test_torchvisions_resnets(
    make: Callable[..., VideoResNet], size: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nn.init, "kaiming_normal_", lambda tensor, **_: tensor)  # `reset` fills them
    module = random_statistics(toys.reset(make(num_classes=4)))
    for name in ("layer3", "layer4"):  # what no crop reaches here
        setattr(module, name, nn.Identity())
    module.fc = toys.reset(nn.Linear(128, 4))  # type: ignore[assignment]
    agree(toys.network(module, size=size, memory_format=torch.channels_last_3d), size, (1, 2, 2), depth=2)


SIZE = (3, 8, 32, 40)
QUICK = {"window": 4, "window_frames": 2, "stride": 15, "stride_frames": 5}


def plain(model: VideoModel, query: Query, method: OSA, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """Returns the drops of whole passes."""
    with monkeypatch.context() as patch:
        patch.setattr(occlude, "reuse", lambda *_: None)
        return method(model, query).extras["drops"]


@pytest.mark.parametrize(
    ("fill", "placement"),
    [
        *((fill, CuboidGrid.half_stride) for fill in Replacement),
        *((Replacement.zero, placement) for placement in CuboidGrid),
    ],
)
def test_osa_of_any_fill_and_placement(
    fill: Replacement, placement: CuboidGrid, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, query = light(SIZE, channels_last=fill is Replacement.mean), toys.query(2, size=SIZE)
    method = OSA(fill=fill, samples=2, placement=placement, **QUICK)  # type: ignore[arg-type]
    begun = _reuse.reuse(model, query.frames, query.frames[None], method.size(*SIZE[1:]))
    assert begun is not None
    found, expected = method(model, query).extras["drops"], plain(model, query, method, monkeypatch)
    assert expected.abs().max() > 0
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-12)


def test_osa_is_captums_occlusion() -> None:
    captum = pytest.importorskip("captum.attr")
    model, query = light(SIZE).fold(), toys.query(2, size=SIZE)
    expected = captum.Occlusion(lambda x: model.module(x).softmax(1)).attribute(
        query.frames, (3, 4, 7, 7), strides=(3, 3, 7, 7), baselines=0, target=query.target
    )
    method = OSA(window=7, window_frames=4, stride=7, stride_frames=3, placement=CuboidGrid.flush)
    assert _reuse.reuse(model, query.frames, query.frames[None], method.size(*SIZE[1:])) is not None
    torch.testing.assert_close(method(model, query).map, expected[:, 0].float(), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("max_batch", [1, 4, 1000])
def test_chunks_and_neighbours_leave_no_trace(max_batch: int) -> None:
    query = toys.query(3, size=SIZE)
    alone = Query(query.frames[2:], query.target[2:], query.seeds[2:])
    expected = OSA(**QUICK)(light(SIZE), alone).map[0]  # type: ignore[arg-type]
    found = OSA(**QUICK)(light(SIZE, max_batch=max_batch), query).map[2]  # type: ignore[arg-type]
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-12)


def test_nothing_leaves_the_device(request: pytest.FixtureRequest) -> None:
    model, query, method = light(SIZE), toys.query(2, size=SIZE), OSA(**QUICK)  # type: ignore[arg-type]
    request.getfixturevalue("no_host_copies")
    assert _reuse.reuse(model, query.frames, query.frames[None], method.size(*SIZE[1:])) is not None
    method(model, query)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes of all that convolutions of three channels get, the clips that are whole among them."""
    shapes: list[tuple[int, ...]] = []
    forward = nn.Conv3d.forward

    def watching(self: nn.Conv3d, volume: Tensor) -> Tensor:
        if self.in_channels == 3:
            shapes.append(tuple(volume.shape))
        return forward(self, volume)

    monkeypatch.setattr(nn.Conv3d, "forward", watching)
    return shapes


def test_the_first_step_sees_each_clip_once_and_crops(seen: list[tuple[int, ...]]) -> None:
    module, query = toys.reset(C3DLight(4)), toys.query(2, size=SIZE)
    result = OSA(**QUICK)(toys.network(module, size=SIZE, max_batch=7), query)  # type: ignore[arg-type]
    cuboids = 2 * (result.extras["drops"].shape[1] + 1)
    assert seen[0] == (2, *SIZE)
    assert {shape[2:] for shape in seen[1:]} == {
        (8, 12, 12)
    }  # 4 rows change 4 outputs, which see 10; from an even row to an even row
    assert sum(shape[0] for shape in seen[1:]) == cuboids
    assert len(seen) == 1 + math.ceil(cuboids / 7)


def test_a_hook_sees_whole_passes(seen: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    for folded in (False, True):
        model, query = light(SIZE), toys.query(1, size=SIZE)
        expected = OSA(**QUICK)(model, query).map  # type: ignore[arg-type]
        model = model.fold() if folded else model
        volumes: list[Tensor] = []
        model.module.get_submodule("conv2").register_forward_hook(
            lambda _m, _i, output, kept=volumes: kept.append(output)
        )
        seen.clear()
        torch.testing.assert_close(OSA(**QUICK)(model, query).map, expected, rtol=1e-6, atol=1e-12)  # type: ignore[arg-type]
        assert {shape[1:] for shape in seen} == {SIZE}
        assert {volume.shape[2:] for volume in volumes} == {(2, 8, 10)}


def test_nothing_is_left_behind_by_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("out of luck")

    model, query, method = light(SIZE), toys.query(1, size=SIZE), OSA(**QUICK)  # type: ignore[arg-type]
    expected = method(model, query).map
    before = {name: dict(vars(part)) for name, part in model.module.named_modules()}
    with monkeypatch.context() as patch:
        patch.setattr(nn.AdaptiveAvgPool3d, "forward", fail)
        with pytest.raises(RuntimeError, match=r"^out of luck$"):
            method(model, query)
    assert {name: dict(vars(part)) for name, part in model.module.named_modules()} == before
    assert torch.equal(method(model, query).map, expected)


def test_new_weights_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for folded in (False, True):
        model, query, method = light(SIZE), toys.query(1, size=SIZE), OSA(**QUICK)  # type: ignore[arg-type]
        model = model.fold() if folded else model
        first = method(model, query).extras["drops"]
        toys.reset(model.module, seed=2)
        second = method(model, query).extras["drops"]
        assert (first - second).abs().max() > 1e-6
        torch.testing.assert_close(second, plain(model, query, method, monkeypatch), rtol=1e-6, atol=1e-12)


class Excited(Headed):
    """A squeeze and excitation after the first of two steps."""

    def build(self) -> None:
        self.first, self.gate, self.second = (nn.Conv3d(inputs, 4, 1) for inputs in (3, 4, 4))

    def local(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.second(x * self.gate(x.mean((2, 3, 4), keepdim=True)))


class Reflected(Excited):
    def build(self) -> None:
        super().build()
        self.second = nn.Conv3d(4, 4, 3, padding=1, padding_mode="reflect")

    def local(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))


class Again(Excited):
    """Needs the frames once more at its end."""

    def local(self, x: Tensor) -> Tensor:
        return self.second(self.first(x)) + x.mean((1, 2, 3, 4), keepdim=True)


class Batched(Excited):
    """Normalises by the batch, not by what was learnt."""

    def build(self) -> None:
        super().build()
        self.norm = nn.BatchNorm3d(4, track_running_stats=False)

    def local(self, x: Tensor) -> Tensor:
        return self.second(self.norm(self.first(x)))


class Looking(Excited):
    """Decides by its input, so that it cannot be traced."""

    def local(self, x: Tensor) -> Tensor:
        return self.first(x) if x.mean() > 0 else self.second(self.first(x))


@pytest.mark.parametrize(
    ("make", "steps"),
    [
        *((make, 0) for make in (toys.CnnLstm, toys.Transformer, toys.Linear, toys.Unmoved, Looking, Again)),
        *((make, 1) for make in (toys.Constant, Excited, Reflected, Batched)),
        *((make, 2) for make in (toys.ConvNet, Shortcut)),
        (Branches, 4),
    ],
)
def test_steps_end_where_more_than_a_neighbourhood_is_seen(make: Callable[[], nn.Module], steps: int) -> None:
    assert len(Prefix(make().eval()).steps) == steps


@pytest.mark.parametrize(
    "make", [Branches, Shortcut, lambda: toys.reset(R2Plus1D(4)), lambda: toys.reset(R2Plus1DLight(4))]
)
def test_no_output_sees_more_than_it_says(make: Callable[[], nn.Module]) -> None:
    volume = toys.seeded(1, 3, 9, 40, 40)
    for step in Prefix(make().eval()).steps:
        clean = step(volume)
        at = [length // 12 * 6 for length in volume.shape[2:]]  # no stride jumps over it
        spoilt = volume.clone()
        spoilt[(0, slice(None), *at)] = torch.nan
        for axis, reach in enumerate(step.reach):
            others = tuple(other for other in range(4) if other != axis + 1)
            hit = step(spoilt)[0].isnan().any(dim=others).nonzero().flatten().tolist()
            assert hit
            assert all(o * reach.stride - reach.before <= at[axis] <= o * reach.stride + reach.after for o in hit)
        volume = clean


def test_steps_are_found_once() -> None:
    model = light(SIZE)
    first = model.prefix
    assert model.prefix is first
    folded = model.fold().prefix
    assert folded is not first
    assert model.prefix is folded
