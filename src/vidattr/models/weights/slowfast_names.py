"""The names of SlowFast's weights in mmaction2, in PySlowFast, and in the Caffe2 files of its model zoo."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

_FAST_FEATURES = 256  # columns of the head for the fast pathway
_PATHS = ("slow_path", "fast_path")
_PARTS = {"branch1": "downsample", "branch2.a": "conv1", "branch2.b": "conv2", "branch2.c": "conv3"}


def from_mmaction2(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Returns the weights of an mmaction2 checkpoint by this project's names."""
    return {re.sub(r"^(backbone|cls_head)\.", "", name): tensor for name, tensor in state.items()}


def from_pyslowfast(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Returns the weights of a PySlowFast checkpoint, its own or one of Caffe2, by this project's names."""
    if "pred_w" in state:
        ours = {
            _name_of_caffe2(name): _long(tensor, name)
            for name, tensor in state.items()
            if not _CAFFE2_TRAINING.search(name)
        }
    else:
        ours = {_name_of_pyslowfast(name): tensor for name, tensor in state.items()}
    head = ours.get("fc_cls.weight")
    if head is not None and head.ndim == 2:  # its columns for the slow pathway come first there
        ours["fc_cls.weight"] = head.roll(_FAST_FEATURES, 1)
    return ours


def _name_of_pyslowfast(name: str) -> str:
    """Returns this project's name of a weight; an unknown name is returned unchanged, and `fill` reports it."""
    if match := re.fullmatch(r"s1\.pathway([01])_stem\.((?:conv|bn)\.\w+)", name):
        return f"{_PATHS[int(match[1])]}.conv1.{match[2]}"
    if match := re.fullmatch(r"s([1-4])_fuse\.(conv_f2s|bn)\.(\w+)", name):
        place = f"layer{int(match[1]) - 1}" if match[1] != "1" else "conv1"
        return f"slow_path.{place}_lateral.{match[2].removesuffix('_f2s')}.{match[3]}"
    if match := re.fullmatch(r"s([2-5])\.pathway([01])_res(\d+)\.(branch1|branch2\.[abc])(_bn)?\.(\w+)", name):
        stage, path, block, part, norm, kind = match.groups()
        return f"{_PATHS[int(path)]}.layer{int(stage) - 1}.{block}.{_PARTS[part]}.{'bn' if norm else 'conv'}.{kind}"
    return name.replace("head.projection.", "fc_cls.")


_CAFFE2 = {
    "w": "weight",
    "b": "bias",
    "bn_s": "weight",
    "bn_b": "bias",
    "bn_rm": "running_mean",
    "bn_riv": "running_var",
}
_CAFFE2_KIND = rf"({'|'.join(_CAFFE2)})"
_CAFFE2_PARTS = {"1": "downsample", "2a": "conv1", "2b": "conv2", "2c": "conv3"}
_CAFFE2_TRAINING = re.compile(r"_momentum$|^(lr|model_iter)$")


def _name_of_caffe2(name: str) -> str:
    """Returns this project's name of a Caffe2 weight; names of the fast pathway begin with `t_`."""

    def ours(place: str, kind: str) -> str:
        return f"{place}.{'bn' if kind.startswith('bn') else 'conv'}.{_CAFFE2[kind]}"

    if match := re.fullmatch(rf"t_(pool1|res([2-4])_\d+_branch2c_bn)_subsample_{_CAFFE2_KIND}", name):
        return ours(f"slow_path.{f'layer{int(match[2]) - 1}' if match[2] else 'conv1'}_lateral", match[3])
    path = _PATHS[name.startswith("t_")]
    if match := re.fullmatch(r"(?:t_)?(?:conv1_(w)|res_conv1_(bn_\w+))", name):
        return ours(f"{path}.conv1", match[1] or match[2]) if (match[1] or match[2]) in _CAFFE2 else name
    if match := re.fullmatch(rf"(?:t_)?res([2-5])_(\d+)_branch(1|2[abc])_{_CAFFE2_KIND}", name):
        return ours(f"{path}.layer{int(match[1]) - 1}.{match[2]}.{_CAFFE2_PARTS[match[3]]}", match[4])
    return {"pred_w": "fc_cls.weight", "pred_b": "fc_cls.bias"}.get(name, name)


def _long(tensor: Tensor, name: str) -> Tensor:
    """Adds the axes of length 1 that Caffe2 omits from a convolution's weight."""
    kernel = name.endswith("_w") and not name.startswith("pred") and 2 <= tensor.ndim < 5
    return tensor.reshape(*tensor.shape, *[1] * (5 - tensor.ndim)) if kernel else tensor
