"""The Python interface: load a network and a method, explain clips, judge the maps, read the results of a run."""

from __future__ import annotations

from vidattr.api.explaining import explain
from vidattr.api.explanation import ClipExplanation
from vidattr.api.judging import Judgement, judge
from vidattr.api.loading import load_method, load_metric, load_model, read_clip
from vidattr.api.stored import StoredRun, open_run

__all__ = [
    "ClipExplanation",
    "Judgement",
    "StoredRun",
    "explain",
    "judge",
    "load_method",
    "load_metric",
    "load_model",
    "open_run",
    "read_clip",
]
