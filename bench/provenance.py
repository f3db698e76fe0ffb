"""Build the content of a result: cell, data, code, outcome, machine and cost."""

from __future__ import annotations

import functools
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

import bench
from bench.cell import Cell
from bench.data.datasets.held import reader_facts
from bench.data.prepared import PreparedSignals, choose_source_rate
from bench.data.records import Records
from bench.data.signals import PREPROCESSINGS, SignalSpec
from bench.data.splits import TEST_FOLD, Split
from bench.data.tasks import LabelTable, task_facts
from bench.evaluation.bootstrap import Replicates
from bench.evaluation.predictions import Predictions
from bench.evaluation.scores import score_fold
from bench.processor import processor_name
from bench.registry.reference import Reference
from bench.registry.registry import Kind, find, resolve
from bench.results.identity import SIGNALS, harness_facts, identity
from bench.training.distributed import World
from bench.training.memory import PeakMemory
from bench.training.model import Classifier, count_parameters
from bench.training.phase import Phase
from bench.training.precision import Precision
from bench.training.report import PhaseReport
from bench.training.weights import INHERITED, Init, hash_weights

PACKAGES = ("torch", "numpy", "scipy", "pandas", "scikit-learn", "wfdb")


def describe(
    cell: Cell,
    records: Records,
    table: LabelTable,
    parts: Split,
    phases: Sequence[Phase],
    model: Classifier,
    init: Init,
    precision: Precision,
) -> dict[str, Any]:
    """Return the first half of a result, known before the run: cell, data, code, and the digest that identifies it."""
    method = {**plugin_facts("method", cell.method), "phases": [phase.facts() for phase in phases]}
    backbone = plugin_facts("backbone", cell.arch)
    spec = model.backbone.signal_spec
    facts = sections(cell, records, table, parts, method, backbone, spec, precision)
    document: dict[str, Any] = {
        "cell": facts["cell"],
        "dataset": {
            "name": records.name,
            "synthetic": records.synthetic,
            "num_records": len(records),
            "seconds": records.seconds,
            "licence": records.licence,
            "source": records.source,
            **reader_facts(records, cell.data),
        },
        "task": facts["task"],
        "split": facts["split"],
        "method": method,
        "backbone": {
            **backbone,
            "parameters": count_parameters(model),
            "feature_dim": model.backbone.feature_dim,
        },
        "signals": facts["signals"],
        "init": init.recorded(),
        "code": {**code_facts(spec), **signal_facts(records, spec, cell.source_rate)},
    }
    # last, because the digest is computed from the sections above
    document["digest"] = identity(document)
    document["origin"] = {
        "digest": document["digest"],
        "trained_on": f"{table.task} of {records.name}, folds 1-8",
        "command": cell.command(),
        "labels": list(table.labels),
        **{key: init.facts[key] for key in INHERITED if key in init.facts},
        **({"before": "; ".join(before)} if (before := trained_before(init.facts)) else {}),
    }
    return document


def trained_before(facts: Mapping[str, object]) -> list[str]:
    """Return what weights with these facts have been trained on, each once, the last first: `diag of A, folds 1-8`."""
    texts = [str(facts.get("trained_on", "")), *str(facts.get("before", "")).split("; ")]
    return list(dict.fromkeys(filter(None, texts)))


def sections(
    cell: Cell,
    records: Records,
    table: LabelTable,
    parts: Split,
    method: Mapping[str, Any],
    backbone: Mapping[str, Any],
    spec: SignalSpec,
    precision: Precision,
) -> dict[str, Any]:
    """Return the sections of a result that decide the outcome, without the initial weights. `identity` reads them."""
    source_rate = choose_source_rate(records, spec, cell.source_rate)
    return {
        "cell": {
            "task": table.task,
            "arch": str(cell.arch),
            "method": str(cell.method),
            "init": cell.init,
            "fraction": parts.fraction,
            "draw": parts.draw,
            "manifest": cell.manifest.name if cell.manifest and not parts.whole else None,
            "seed": cell.seed,
            "streams": cell.streams,
            "source_rate": source_rate if source_rate != spec.file_rate else None,
            "precision": precision,
            "command": cell.command(),
        },
        "task": task_facts(table),
        "split": {
            "sha256": None if parts.whole else parts.content,
            "train_records": len(parts.train),
            "val_records": len(parts.val),
            "train_patients": len(np.unique(parts.train.patient_id)),
            "train_positives": dict(zip(table.labels, parts.train.y_true.sum(axis=0).tolist(), strict=True)),
            "labels_without_training_positive": parts.unseen_labels,
        },
        "method": method,
        "backbone": backbone,
        "signals": {**spec.facts(), **({"files": records.stated} if records.stated else {})},
    }


def outcome(
    stage: str,
    model: Classifier,
    facts: Mapping[str, Any],
    signals: PreparedSignals,
    reports: Sequence[PhaseReport],
    predictions: Mapping[int, Predictions],
    truth: Mapping[int, LabelTable],
    replicates: Replicates | None,
) -> dict[str, Any]:
    """Return the second half of a result: metrics of each fold, intervals for fold 10, and training.

    `facts`: the first half. `replicates`: of the patients of fold 10, where that is scored.
    """
    # the protocol requires that each read of fold 10 is recorded
    reads = [
        {"at": datetime.now(UTC).isoformat(timespec="seconds"), "records": len(table), "for": "final scores"}
        for fold, table in truth.items()
        if fold == TEST_FOLD
    ]
    # patients are given for fold 10 only: there intervals are computed by resampling patients
    metrics = {
        f"fold_{fold}": score_fold(
            table.y_true,
            predictions[fold].logits,
            table.labels,
            table.patient_id if fold == TEST_FOLD else None,
            replicates=replicates,
        )
        for fold, table in truth.items()
    }
    return {
        "stage": stage,
        "incompatible": None,
        "signals": {
            **facts["signals"],
            "seconds": signals.length / signals.spec.rate,
            "scaling": asdict(signals.scaling),
            "findings": signals.findings,
        },
        "training": [asdict(report) for report in reports],
        "weights_sha256": hash_weights(model.state_dict()),
        "reads_of_fold_10": reads,
        "metrics": metrics,
    }


def cost(seconds: float, memory: PeakMemory) -> dict[str, Any]:
    """Return seconds of training, predicting and scoring over all attempts, and the peak memory.

    Includes what features took that an earlier run computed. Excludes reading tables, downloading weights and preparing
    signals, which is done once for many cells.
    """
    return {"seconds": seconds, "peak_memory_mib": memory.mib(), "peak_memory_measured_by": memory.measured_by}


def code_facts(spec: SignalSpec) -> dict[str, dict[str, str]]:
    """Return facts about code other than method and backbone: the harness, and a plugin's preprocessing."""
    chosen = PREPROCESSINGS[spec.preprocessing]
    facts = {"name": spec.preprocessing, "module": chosen.module, "code_sha256": chosen.code_sha256}
    return {"harness": harness_facts(), **({"preprocessing": facts} if chosen.code_sha256 else {})}


def signal_facts(records: Records, spec: SignalSpec, source_rate: int | None) -> dict[str, dict[str, str]]:
    """Return facts about the signal files that a run reads: their rate, and a hash of a sample; none if one is missing.

    The tables alone do not tell two sets of signals apart, such as a filtered copy.
    """
    rate = choose_source_rate(records, spec, source_rate)
    sampled = records.sample_sha256(rate)
    return {SIGNALS: {"name": records.name, "module": f"{rate} Hz", "code_sha256": sampled}} if sampled else {}


def plugin_facts(kind: Kind, reference: Reference) -> dict[str, Any]:
    """Return facts about a plugin: given and resolved hyper-parameters, its package, the hash of its source."""
    plugin = find(kind, reference.name)
    return {
        "name": plugin.name,
        "given": dict(reference.arguments),
        "resolved": resolve(plugin, reference),
        "distribution": plugin.distribution,
        "module": plugin.module,
        "code_sha256": plugin.code_hash,
    }


def environment(world: World) -> dict[str, Any]:
    """Return versions and facts about the machine. The digest does not depend on them."""
    on_gpu = world.device.type == "cuda"
    return {
        "bench": bench.__version__,
        "git_commit": _git_commit(),
        "python": platform.python_version(),
        **_versions(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name(world.device) if on_gpu else processor_name(),
        "threads": torch.get_num_threads(),
        "ranks": world.size,
    }


@functools.cache
def _versions() -> dict[str, str]:
    return {name: version(name) for name in PACKAGES}


@functools.cache
def _git_commit() -> str | None:
    """Return the git commit of this code, marked if files have been changed. None outside a checkout."""
    root = Path(bench.__file__).parent.parent
    try:
        _git(root, "ls-files", "--error-unmatch", "bench/__init__.py")  # fails within another repository
        commit = _git(root, "rev-parse", "HEAD")
        dirty = _git(root, "status", "--porcelain", "--untracked-files=no", "--", "bench", "methods", "baselines")
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("-dirty" if dirty else "")


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout.strip()
