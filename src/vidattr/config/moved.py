"""The new places of the modules and names of version 0.1, for the error that an old plug-in gets."""

from __future__ import annotations

import re

_MODULES = {
    "_arrays": "array_pickle",
    "_decoding": "video.decoders",
    "_display": "video.display_matrix",
    "_drawing": "render.drawing",
    "_encoding": "render.encoding",
    "_footage": "video.footage",
    "_frames": "video.frame_folder",
    "_heat": "render.heat",
    "_sheets": "render.sheets",
    "_strips": "render.strips",
    "_summary": "evaluate.summary",
    "batches": "run.batches",
    "blur": "video.blur",
    "building": "config.building",
    "catalogue": "config.catalogue",
    "classes": "models.weights.data",
    "company": "run.company",
    "compose": "run.compose",
    "config.compose": "run.compose",
    "config.doctor": "run.doctor",
    "config.experiment": "run.experiment",
    "datasets._files": "datasets.shared.files",
    "datasets._matlab": "datasets.shared.matlab",
    "datasets._scenes": "datasets.shared.scenes",
    "datasets._tubes": "datasets.shared.tubes",
    "datasets._ucf": "datasets.shared.ucf",
    "datasets._walk": "datasets.shared.folders",
    "doubts": "run.doubts",
    "evaluator": "evaluate.evaluator",
    "gallery": "run.gallery",
    "geometry": "video.geometry",
    "identity": "config.identity",
    "importing": "config.importing",
    "jobs": "run.job",
    "matched": "metrics.shared.matched_noise",
    "methods._conditional": "methods.occlusion.conditional_fill",
    "methods._excitation": "methods.excitation.trace",
    "methods._excitation_lstm": "methods.excitation.lstm",
    "methods._extremal": "methods.perturbation.solver",
    "methods._flow": "methods.occlusion.flow",
    "methods._integral": "methods.occlusion.integral_image",
    "methods._mask_losses": "methods.perturbation.losses",
    "methods._occlusion": "methods.occlusion.occlude",
    "methods._ops": "methods.shared",
    "methods._pyramid": "methods.perturbation.pyramid",
    "methods._reuse": "methods.occlusion.reuse",
    "methods._rollout": "methods.attention.rollout",
    "methods._seeds": "methods.perturbation.smooth_mask",
    "methods._shares": "methods.excitation.redistribute",
    "methods._tubes": "methods.occlusion.tubes",
    "methods.aosa": "methods.occlusion.aosa",
    "methods.aosa_approx": "methods.occlusion.aosa_approx",
    "methods.attention_rollout": "methods.attention.attention_rollout",
    "methods.center": "methods.baselines.center",
    "methods.eb_r": "methods.excitation.eb_r",
    "methods.extremal_perturbation": "methods.perturbation.extremal_perturbation",
    "methods.grad_cam": "methods.cam.grad_cam",
    "methods.grad_x_input": "methods.gradients.grad_x_input",
    "methods.gradient": "methods.gradients.gradient",
    "methods.integrated_gradients": "methods.gradients.integrated_gradients",
    "methods.osa": "methods.occlusion.osa",
    "methods.random": "methods.baselines.random",
    "methods.rise": "methods.occlusion.rise",
    "methods.saliency_tubes": "methods.cam.saliency_tubes",
    "methods.smoothgrad": "methods.gradients.smoothgrad",
    "metrics._cascade": "metrics.shared.randomise",
    "metrics._draws": "metrics.shared.noise_draws",
    "metrics._pointing": "metrics.shared.expected_hit",
    "metrics._similarity": "metrics.shared.similarity",
    "metrics.min_ratio": "metrics.rerun.min_ratio",
    "metrics.s_pt": "metrics.spatial_pointing",
    "metrics.sanity": "metrics.rerun.sanity",
    "metrics.t_pt": "metrics.temporal_pointing",
    "metrics.timing": "metrics.rerun.timing",
    "models._attention": "models.network.attention",
    "models._checkpoint": "models.weights.checkpoint",
    "models._class_files": "models.weights.class_files",
    "models._classes": "models.weights.class_names",
    "models._compiled": "models.speed.compiled",
    "models._divided": "models.network.divided_attention",
    "models._entries": "models.weights.entries",
    "models._folded": "models.speed.folded",
    "models._head": "models.network.linear_head",
    "models._lstm": "models.network.lstm",
    "models._network": "models.network.network",
    "models._output": "models.network.output",
    "models._prefix": "models.speed.prefix",
    "models._processors": "models.weights.processors",
    "models._released": "models.weights.loading",
    "models._renamed": "models.weights.loading",
    "models._slowfast_names": "models.weights.slowfast_names",
    "models._sound": "models.network.finite",
    "models._torchvision": "models.weights.torchvision",
    "outcome": "run.outcome",
    "overrides": "config.overrides",
    "own": "run.explain",
    "plan": "run.dry_run",
    "plots": "evaluate.plots",
    "render": "render.options",
    "report": "evaluate.report",
    "resident": "run.resident",
    "runner": "run.runner",
    "runtime": "config.runtime",
    "sampling": "video.sampling",
    "scores": "evaluate.scores",
    "settings": "config.settings",
    "sources": "run.sources",
    "stages": "profiling",
    "statistics": "evaluate.statistics",
    "store": "run.store",
    "table": "evaluate.table",
    "train": "training.train",
    "user_code": "config.user_code",
    "video": "video.decode",
    "view": "video.preprocessing",
    "weights": "models.weights.loading",
}
_NAMES = {
    "types.unkeyed": "config.fields.not_in_key",
    "types.hashed": "config.fields.keyed_by_content",
    "types.coded": "config.fields.keyed_by_code",
    "types.LATER": "config.fields.LATER",
    "types.Dataset": "protocols.Dataset",
    "types.Method": "protocols.Method",
    "types.Smoothed": "protocols.Smoothed",
    "types.Metric": "protocols.Metric",
    "types.Joint": "protocols.JointMethod",
    "types.Model": "protocols.ModelConfig",
    "models._network.Network": "models.network.network.VideoModel",
    "view.View": "video.preprocessing.Preprocessing",
    "compose.Cell": "run.experiment.Experiment",
    "compose.cells": "run.compose.experiments",
    "datasets.shared.folders.Source": "datasets.shared.folders.Storage",
    "models.weights.loading.Origin": "models.weights.loading.WeightsOrigin",
    "methods._tubes.Tubing": "methods.occlusion.tubes.TubeOptions",
    "methods._occlusion.Occlusion": "methods.occlusion.occlude.OcclusionOptions",
    "render.overlay": "render.heat.overlay",
    "runtime.within_memory": "models.speed.memory.within_memory",
}


def moved(error: ImportError) -> str | None:
    """Returns where a module or name of this package went that an import did not find; None: it is nothing that moved.

    Args:
        error: What the import raised: `No module named 'vidattr.view'`, or
            `cannot import name 'unkeyed' from 'vidattr.types'`.
    """
    name = re.search(r"cannot import name '(\w+)' from '([\w.]+)'", str(error))
    if name:
        asked, module = name[1], name[2].removeprefix("vidattr.")
        new = _NAMES.get(f"{module}.{asked}") or _MODULES.get(f"{module}.{asked}") or _in_module(module, asked)
        return f"vidattr.{module}.{asked} is vidattr.{new} now" if new else None
    module = (error.name or "").removeprefix("vidattr.")
    if not (error.name or "").startswith("vidattr.") or module not in _MODULES:
        return None
    words = [f"vidattr.{module} is vidattr.{_MODULES[module]} now"]
    words += [
        f"its {old.rpartition('.')[2]} is {new.rpartition('.')[2]}" for old, new in _NAMES.items() if _of(old, module)
    ]
    return ", and ".join(words)


def _in_module(module: str, asked: str) -> str | None:
    """Returns where a name of a module is that is a folder now."""
    return f"{_MODULES[module]}.{asked}" if module in _MODULES else None


def _of(name: str, module: str) -> bool:
    return name.rpartition(".")[0] == module
