"""Names and shapes in the released checkpoints of the papers' networks, written down from their authors' sources."""

from __future__ import annotations

Shapes = dict[str, tuple[int, ...]]


def norm(name: str, channels: int) -> Shapes:
    return {f"{name}.{key}": (channels,) for key in ("weight", "bias", "running_mean", "running_var")}


def conv_norm(conv: str, bn: str, outputs: int, inputs: int, *side: int) -> Shapes:
    return {f"{conv}.weight": (outputs, inputs, *side), **norm(bn, outputs)}


def head(name: str, classes: int, inputs: int) -> Shapes:
    return {f"{name}.weight": (classes, inputs), f"{name}.bias": (classes,)}


def i3d_shapes(classes: int) -> Shapes:
    """pytorch_i3d.py of piergiaj/pytorch-i3d."""

    def unit(name: str, inputs: int, outputs: int, side: int) -> Shapes:
        return conv_norm(f"{name}.conv3d", f"{name}.bn", outputs, inputs, side, side, side)

    shapes = unit("Conv3d_1a_7x7", 3, 64, 7) | unit("Conv3d_2b_1x1", 64, 64, 1) | unit("Conv3d_2c_3x3", 64, 192, 3)
    table = """3b 192 64 96 128 16 32 32/3c 256 128 128 192 32 96 64/4b 480 192 96 208 16 48 64/\
4c 512 160 112 224 24 64 64/
        4d 512 128 128 256 24 64 64/4e 512 112 144 288 32 64 64/4f 528 256 160 320 32 128 128/\
5b 832 256 160 320 32 128 128/
        5c 832 384 192 384 48 128 128"""
    for row in table.split("/"):
        block, *numbers = row.split()
        inputs, b0, b1a, b1b, b2a, b2b, b3b = map(int, numbers)
        units = {
            "b0": (inputs, b0, 1),
            "b1a": (inputs, b1a, 1),
            "b1b": (b1a, b1b, 3),
            "b2a": (inputs, b2a, 1),
            "b2b": (b2a, b2b, 3),
        }
        for branch, sizes in (units | {"b3b": (inputs, b3b, 1)}).items():
            shapes |= unit(f"Mixed_{block}.{branch}", *sizes)
    return shapes | {"logits.conv3d.weight": (classes, 1024, 1, 1, 1), "logits.conv3d.bias": (classes,)}


def li_i3d_shapes(classes: int) -> Shapes:
    """model_def/i3d.py of shinkyo0513's repository, which is src/i3dpt.py of hassony2/kinetics_i3d_pytorch."""
    branches = {
        "b0": "branch_0",
        "b1a": "branch_1.0",
        "b1b": "branch_1.1",
        "b2a": "branch_2.0",
        "b2b": "branch_2.1",
        "b3b": "branch_3.1",
    }
    shapes: Shapes = {}
    for name, shape in i3d_shapes(classes).items():
        first, *rest = name.replace("logits.", "conv3d_0c_1x1.").replace(".bn.", ".batch3d.").split(".")
        shapes[".".join([first[0].lower() + first[1:], *(branches.get(part, part) for part in rest)])] = shape
    return shapes


def hara_shapes(kind: str, depth: int, classes: int) -> Shapes:
    """models/resnet.py and models/resnet2p1d.py of kenshohara/3D-ResNets-PyTorch."""
    # The channels between space and time, worked out by hand from the formula.
    between = {
        (64, 64): 144,
        (64, 128): 230,
        (128, 128): 288,
        (128, 256): 460,
        (256, 256): 576,
        (256, 512): 921,
        (512, 512): 1152,
    }

    def conv3(where: str, number: int, inputs: int, outputs: int) -> Shapes:
        if kind == "r3d":
            return conv_norm(f"{where}conv{number}", f"{where}bn{number}", outputs, inputs, 3, 3, 3)
        m = between[inputs, outputs]
        return conv_norm(f"{where}conv{number}_s", f"{where}bn{number}_s", m, inputs, 1, 3, 3) | conv_norm(
            f"{where}conv{number}_t", f"{where}bn{number}_t", outputs, m, 3, 1, 1
        )

    def conv1(where: str, number: int, inputs: int, outputs: int) -> Shapes:
        return conv_norm(f"{where}conv{number}", f"{where}bn{number}", outputs, inputs, 1, 1, 1)

    if kind == "r3d":
        shapes = conv_norm("conv1", "bn1", 64, 3, 7, 7, 7)
    else:
        shapes = conv_norm("conv1_s", "bn1_s", 110, 3, 1, 7, 7) | conv_norm("conv1_t", "bn1_t", 64, 110, 7, 1, 1)
    inputs, expansion = 64, 4 if depth >= 50 else 1
    counts = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}[depth]
    for stage, (width, count) in enumerate(zip((64, 128, 256, 512), counts, strict=True), 1):
        for block in range(count):
            where, outputs = f"layer{stage}.{block}.", width * expansion
            if expansion == 4:
                shapes |= (
                    conv1(where, 1, inputs, width) | conv3(where, 2, width, width) | conv1(where, 3, width, outputs)
                )
            else:
                shapes |= conv3(where, 1, inputs, width) | conv3(where, 2, width, width)
            if block == 0 and inputs != outputs:
                shapes |= conv_norm(f"{where}downsample.0", f"{where}downsample.1", outputs, inputs, 1, 1, 1)
            inputs = outputs
    return shapes | head("fc", classes, inputs)


def mfnet_shapes(classes: int) -> Shapes:
    """network/mfnet_3d.py of cypw/PyTorch-MFNet."""

    def unit(name: str, inputs: int, outputs: int, *side: int, groups: int = 1) -> Shapes:
        return norm(f"{name}.bn", inputs) | {f"{name}.conv.weight": (outputs, inputs // groups, *side)}

    shapes, inputs = conv_norm("conv1.conv", "conv1.bn", 16, 3, 3, 5, 5), 16
    for stage, width, count in ((2, 96, 3), (3, 192, 4), (4, 384, 6), (5, 768, 3)):
        for block in range(1, count + 1):
            where = f"conv{stage}.B{block:02d}."
            shapes |= unit(f"{where}conv_i1", inputs, width // 4, 1, 1, 1) | unit(
                f"{where}conv_i2", width // 4, inputs, 1, 1, 1
            )
            shapes |= unit(f"{where}conv_m1", inputs, width, 3, 3, 3, groups=16)
            if block == 1:
                shapes |= unit(f"{where}conv_m2", width, width, 1, 1, 1) | unit(
                    f"{where}conv_w1", inputs, width, 1, 1, 1
                )
            else:
                shapes |= unit(f"{where}conv_m2", width, width, 1, 3, 3, groups=16)
            inputs = width
    return shapes | norm("tail.bn", 768) | head("classifier", classes, 768)


def tsm_shapes(**heads: int) -> Shapes:
    """Names and shapes of mit-han-lab/temporal-shift-module and of tsm.py of epic-kitchens-55-action-models."""
    shapes, inputs = conv_norm("base_model.conv1", "base_model.bn1", 64, 3, 7, 7), 64
    for stage, (width, count) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3)), 1):
        for block in range(count):
            where = f"base_model.layer{stage}.{block}."
            shapes |= conv_norm(f"{where}conv1.net", f"{where}bn1", width, inputs, 1, 1)
            shapes |= conv_norm(f"{where}conv2", f"{where}bn2", width, width, 3, 3)
            shapes |= conv_norm(f"{where}conv3", f"{where}bn3", width * 4, width, 1, 1)
            if block == 0:
                shapes |= conv_norm(f"{where}downsample.0", f"{where}downsample.1", width * 4, inputs, 1, 1)
            inputs = width * 4
    for name, classes in heads.items():
        shapes |= head(name, classes, 2048)
    return shapes
