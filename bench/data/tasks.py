"""Turn SCP statements into a label matrix, with a fingerprint that changes with any label, fold or patient."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.data.records import Records
from bench.errors import DataError, PluginError
from bench.registry.reference import canonical
from bench.registry.registry import find, find_optional, register_task, registry
from bench.registry.source import is_own


@dataclass(frozen=True)
class Task:
    """A named set of labels and the rule that assigns them to records."""

    name: str
    description: str
    labels_of: Callable[[str, pd.Series], list[str]]
    """Map a statement (its code and its row of scp_statements.csv) to a list of labels, which may be empty."""
    min_likelihood: float = 0.0
    """Ignore statements of a lower likelihood, in percent. PTB-XL writes 0 where no likelihood is stated, which is so
    for nearly all form and rhythm statements; use a threshold for diagnostic statements only."""
    keeps_unlabeled: bool = False
    """Keep records without a label, as negatives of every label. For yes-or-no tasks."""
    dataset: str = "ptb-xl"
    """The data set to which the task applies: `Records.dataset`."""

    def __post_init__(self) -> None:
        kinds = {
            "name": str,
            "description": str,
            "min_likelihood": int | float,
            "keeps_unlabeled": bool,
            "dataset": str,
        }
        for field, kind in kinds.items():
            if not isinstance(value := getattr(self, field), kind):
                raise PluginError(
                    f"task {self.name!r}: {field} is {value!r}, expected {getattr(kind, '__name__', kind)}"
                )


def _flagged(column: str) -> Callable[[str, pd.Series], list[str]]:
    return lambda code, statement: [code] if statement[column] == 1 else []


def _mapped(column: str) -> Callable[[str, pd.Series], list[str]]:
    def labels_of(code: str, statement: pd.Series) -> list[str]:
        return [str(statement[column])] if statement["diagnostic"] == 1 and pd.notna(statement[column]) else []

    return labels_of


def _not_diagnostic(code: str, statement: pd.Series) -> list[str]:
    return [] if statement["diagnostic"] == 1 else [code]


for task in (
    Task("all", "every statement", lambda code, statement: [code]),
    Task("diag", "diagnostic statements", _flagged("diagnostic")),
    Task("subdiag", "diagnostic subclasses", _mapped("diagnostic_subclass")),
    Task("superdiag", "diagnostic superclasses", _mapped("diagnostic_class")),
    Task("form", "form statements", _flagged("form")),
    Task("rhythm", "rhythm statements", _flagged("rhythm")),
    Task("cpsc2018", "the nine labels of CPSC2018", lambda code, statement: [code], dataset="cpsc2018"),
    Task("nondiag", "rhythm and form statements that are not diagnostic: all without diag", _not_diagnostic),
):
    register_task(task)

PUBLISHED_TASKS = ("all", "diag", "subdiag", "superdiag", "form", "rhythm")
"""The six tasks of Strodthoff et al. 2020."""
LONG_NAMES = {"diagnostic": "diag", "subdiagnostic": "subdiag", "superdiagnostic": "superdiag"}
"""Long names from the literature -> names used here."""


class NoPositive(DataError):
    """No record of a dataset has a label of a task."""


@dataclass(frozen=True, eq=False)
class LabelTable:
    """The true labels of a task, with patient and fold of each record.

    Records without a label are dropped, unless the task keeps them.
    """

    task: str
    labels: tuple[str, ...]
    """Label names in alphabetical order."""
    ecg_id: npt.NDArray[np.int64]
    """[record], ascending"""
    patient_id: npt.NDArray[np.int64]
    """[record]"""
    strat_fold: npt.NDArray[np.int64]
    """[record]"""
    y_true: npt.NDArray[np.bool_]
    """[record, label]"""

    def __len__(self) -> int:
        return len(self.ecg_id)

    def select(self, mask: npt.NDArray[np.bool_]) -> LabelTable:
        """Return the rows where `mask` [record] is true."""
        return LabelTable(
            self.task, self.labels, self.ecg_id[mask], self.patient_id[mask], self.strat_fold[mask], self.y_true[mask]
        )

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the label names and, for each record in order of ecg_id, its patient, split and labels."""
        digest = hashlib.sha256(("\n".join(self.labels) + "\n").encode())
        order = np.argsort(self.ecg_id)
        split = np.where(self.strat_fold <= 8, 0, self.strat_fold)
        digest.update(np.stack([self.ecg_id, self.patient_id, split], axis=1)[order].astype("<i8").tobytes())
        digest.update(np.packbits(self.y_true[order], axis=1).tobytes())
        return digest.hexdigest()


def label_table(records: Records, task: Task) -> LabelTable:
    """Return the labels of all records by the rule of Strodthoff et al. 2020: each statement counts, at any likelihood.

    Raises DataError if scp_codes names an unknown statement, NoPositive if no record has a label, and PluginError if
    the task's rule returns anything but a list of labels.
    """
    if task.dataset != records.dataset:
        names = ", ".join(other.name for other in tasks_of(records))
        raise DataError(
            f"task {task.name} belongs to {task.dataset}, but {records.folder} holds {records.dataset}; "
            f"tasks of {records.dataset}: {names or 'none is registered'}"
        )
    # checked before the rule is applied, so that the message names the codes
    unknown = {code for codes in records.scp_codes for code in codes} - set(records.statements.index)
    if unknown:
        raise DataError(
            f"{records.folder}: scp_codes name statements that scp_statements.csv lacks: "
            + ", ".join(sorted(unknown)[:5])
        )
    # the rule is applied once per statement, not once per record
    labels_of = labels_of_statements(records, task)
    present = [
        {label for code, likelihood in codes.items() if likelihood >= task.min_likelihood for label in labels_of[code]}
        for codes in records.scp_codes
    ]
    labels = tuple(sorted(set().union(*present)))
    if not labels:
        raise NoPositive(f"no record in {records.folder} has a label of task {task.name}")
    # labels of the task are those that some record has, in alphabetical order
    column = {label: position for position, label in enumerate(labels)}
    y_true = np.zeros((len(records), len(labels)), dtype=bool)
    for row, record_labels in enumerate(present):
        y_true[row, [column[label] for label in record_labels]] = True
    table = LabelTable(task.name, labels, records.ecg_id, records.patient_id, records.strat_fold, y_true)
    return table if task.keeps_unlabeled else table.select(np.asarray(y_true.any(axis=1)))


def labels_of_statements(records: Records, task: Task) -> dict[str, list[str]]:
    """Apply the task's rule to each statement of a data set: code -> labels. Errors of the rule are raised."""
    return {str(code): _labels_of(task, str(code), row) for code, row in records.statements.iterrows()}


def _labels_of(task: Task, code: str, statement: pd.Series) -> list[str]:
    labels: object = task.labels_of(code, statement)
    if not isinstance(labels, list | tuple | set) or not all(isinstance(label, str) and label for label in labels):
        raise PluginError(
            f"task {task.name!r}: labels_of({code!r}, ...) returned {str(labels)[:40]!r}, expected a list of labels "
            "(an empty list if the statement has none)"
        )
    return list(labels)


def task_facts(table: LabelTable) -> dict[str, Any]:
    """Return what a result records of its task; for a task that is not ours also where its rule comes from."""
    facts: dict[str, Any] = {"name": table.task, "fingerprint": table.fingerprint, "labels": list(table.labels)}
    plugin = find_optional("task", table.task)
    if plugin and not is_own(plugin.module):
        facts |= {"distribution": plugin.distribution, "module": plugin.module, "code_sha256": plugin.code_hash}
    return facts


def tasks_of(records: Records) -> list[Task]:
    """Return the tasks that apply to this data set: registered ones, and those of `tasks_of_labels`."""
    made = [plugin.make() for plugin in registry().of_kind("task")]
    registered = [task for task in made if isinstance(task, Task) and task.dataset == records.dataset]
    names = {canonical(task.name) for task in registered}
    return registered + [task for task in tasks_of_labels(records) if canonical(task.name) not in names]


def tasks_of_labels(records: Records, single: bool = False) -> list[Task]:
    """Return the tasks of a data set whose statements have a column `group`; none for another.

    They are `all` and a task for each group; with `single` also a yes-or-no task for each label. A record without a
    label is a negative. A task whose name an earlier one has is left out.
    """
    if "group" not in records.statements:
        return []
    groups = records.statements["group"]
    chosen = [("all", f"every label of {records.dataset}", groups.index)]
    named = sorted(set(groups) - {""})
    chosen += [(group, f"labels of the group {group}", groups.index[groups == group]) for group in named]
    if single:
        words = records.statements["description"]
        chosen += [
            (code, f"{words[code] or code}: yes or no", groups.index[[at]]) for at, code in enumerate(groups.index)
        ]
    tasks: dict[str, Task] = {}
    for text, description, codes in chosen:
        labels_of = partial(_chosen, frozenset(codes))
        task = Task(task_name_of(text), description, labels_of, keeps_unlabeled=True, dataset=records.dataset)
        tasks.setdefault(canonical(task.name).lower(), task)
    return list(tasks.values())


def task_name_of(text: str) -> str:
    """Return the task's name for a group or a label: letters, digits and single hyphens, such as `sinus-rhythm`."""
    return re.sub(r"[\W_]+", "-", text).strip("-") or "label"


def _chosen(codes: frozenset[str], code: str, statement: pd.Series) -> list[str]:
    return [code] if code in codes else []


def find_task(name: str, records: Records | None = None) -> Task:
    """Return the task of that name: of the labels of `records`, or registered.

    Long names such as `superdiagnostic` are accepted. Raises PluginError for an unknown name.
    """
    own = {canonical(task.name): task for task in tasks_of_labels(records, single=True)} if records else {}
    if (short := canonical(name)) in own:
        return own[short]
    try:
        task = find("task", LONG_NAMES.get(name, name)).make()
    except PluginError as error:
        near = difflib.get_close_matches(short, own, n=1)
        hint = f" Of {records.dataset}: {', '.join(task.name for task in own.values())}." if records and own else ""
        hint += f" Did you mean {own[near[0]].name!r}?" if near else ""
        raise PluginError(f"{error}{hint}") from None
    assert isinstance(task, Task)
    return task
