"""The interface for plugins: everything that a plugin may import.

A package declares the entry point `anything = "my_package"` in `[project.entry-points."bench.plugins"]`. The registry
then imports each of its modules. Plugins that they register can be named on the command line like the built-in ones.
"""

from bench.data.datasets.folder import make_records
from bench.data.formats import FORMATS, SignalFile, SignalFormat, Stored
from bench.data.records import Records
from bench.data.signals import SignalSpec, register_preprocessing
from bench.data.tables import TextTable, read_text_table
from bench.data.tasks import Task
from bench.errors import DataError, Incompatible
from bench.registry.ranges import Count, NotNegative, Positive, Range, Rate, Share
from bench.registry.registry import register_backbone, register_dataset, register_method, register_task
from bench.training.judge import MOST_SCORES
from bench.training.method import EMA, SWA, Batch, Gradients, Judge, Method, Phase, SignalBatch, Start
from bench.training.model import Backbone, Classifier, DropPath
from bench.training.published import PublishedCheckpoint
from bench.training.search import Choice, LogUniform, Uniform

__all__ = [
    "EMA",
    "FORMATS",
    "MOST_SCORES",
    "SWA",
    "Backbone",
    "Batch",
    "Choice",
    "Classifier",
    "Count",
    "DataError",
    "DropPath",
    "Gradients",
    "Incompatible",
    "Judge",
    "LogUniform",
    "Method",
    "NotNegative",
    "Phase",
    "Positive",
    "PublishedCheckpoint",
    "Range",
    "Rate",
    "Records",
    "Share",
    "SignalBatch",
    "SignalFile",
    "SignalFormat",
    "SignalSpec",
    "Start",
    "Stored",
    "Task",
    "TextTable",
    "Uniform",
    "make_records",
    "read_text_table",
    "register_backbone",
    "register_dataset",
    "register_method",
    "register_preprocessing",
    "register_task",
]
