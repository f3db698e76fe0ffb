"""The door: all that a plugin may import.

A package with a line `[project.entry-points."bench.plugins"]`, `anything = "my_package"`, has each of its modules
imported by the registry; what they register here can be named on the command line like our own.
"""

from bench.data.records import Records
from bench.data.signals import SignalSpec, register_preprocessing
from bench.data.tasks import Task
from bench.errors import Incompatible
from bench.registry.registry import register_backbone, register_method, register_task
from bench.training.method import EMA, SWA, Batch, Gradients, Judge, Method, Phase, SignalBatch, Start
from bench.training.model import Backbone, Classifier, DropPath
from bench.training.published import PublishedCheckpoint
from bench.training.search import Choice, LogUniform, Uniform

__all__ = [
    "EMA",
    "SWA",
    "Backbone",
    "Batch",
    "Choice",
    "Classifier",
    "DropPath",
    "Gradients",
    "Incompatible",
    "Judge",
    "LogUniform",
    "Method",
    "Phase",
    "PublishedCheckpoint",
    "Records",
    "SignalBatch",
    "SignalSpec",
    "Start",
    "Task",
    "Uniform",
    "register_backbone",
    "register_method",
    "register_preprocessing",
    "register_task",
]
