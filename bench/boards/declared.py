"""Read which differences a board tests. They are declared in a TOML file beside the board."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bench.errors import BenchError
from bench.files import read_bytes

BASELINE = "ft"
"""The baseline of a board for which nothing is declared, such as that of a user's own task."""
MINUS = " minus "
PRIMARY, FAMILY, EXPLORATORY = "primary", "family", "exploratory"
"""Roles of a pair of rows. Each pair has one role, and so one adjusted p-value; see `comparisons.adjust`."""
Pair = tuple[str, str]
"""Names of two rows: first minus second."""


@dataclass(frozen=True)
class Role:
    """Role of a declared pair, and its study: p-values are adjusted over pairs of the same role and study."""

    name: str
    """PRIMARY or FAMILY."""
    study: tuple[object, ...]
    """Backbone and init of the second row, and whether it is tuned."""


@dataclass(frozen=True)
class BoardPlan:
    """Baseline, declared pairs and margin of a board."""

    baseline: str | None = None
    """A method, such as `ft`: each row is compared with that method on the same backbone and init, tuned if the row is.
    Or a single row for all: `ft on net1d_mini`, or more exactly `ft on net1d_mini (own)`. None: no baseline."""
    family: tuple[str, ...] | None = None
    """Pairs that are tested after the primary contrast. `lpft-sd` means this row minus its baseline; `lpft-sd minus
    lpft` means this contrast. None: every row minus its baseline; such a family is open, as it grows with the board."""
    margin: float = 0.005
    """Largest difference of macro AUROC that does not matter in practice."""
    primary: str | None = None
    """The contrast that is tested first, such as `lpft-sd minus ft`; None: there is no primary contrast."""
    preregistered: bool | None = None
    """Whether primary contrast and family were declared before any result of the task; None: nobody says."""
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Backbone, init or method as results name it -> the name that tables and pictures show."""
    starts: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Init as results name it, such as `own:389512e4` -> where its weights can be had, as `--init` takes it."""

    @classmethod
    def load(cls, path: Path) -> BoardPlan:
        """Read the plan in a board's TOML file; if there is no file, every row is compared with `ft`.

        Raises BenchError for a file that is not TOML, and for unknown keys or values that CHECKS refuse.
        """
        if (document := _read_toml(path)) is None:
            return cls(baseline=BASELINE)
        if unknown := set(document) - set(CHECKS):
            raise BenchError(f"{path} has unknown keys {', '.join(sorted(unknown))}; expected {', '.join(CHECKS)}")
        plan = cls(**{key: check(document[key], f"{path}: {key}") for key, check in CHECKS.items() if key in document})
        if bare := [name for name in plan.family or () if MINUS not in name and plan.baseline is None]:
            raise BenchError(
                f"{path}: family has {bare[0]!r}, but there is no baseline to compare it with; "
                f'add baseline = "..." or write "{bare[0]} minus ..."'
            )
        return plan

    @property
    def of_same_backbone(self) -> bool:
        """Return whether the baseline is a method, and not a single row for all."""
        return self.baseline is not None and _is_method(self.baseline)

    def absent(self, rows: Sequence[str]) -> list[str]:
        """Return the declared names that match no row of the board."""
        contrasts = (*filter(None, [self.primary]), *(self.family or ()))
        declared = dict.fromkeys(side for contrast in contrasts for side in contrast.split(MINUS))
        return [name for name in declared if not any(names_row(name, row) for row in rows)]

    def contrasts(self, rows: Sequence[str], tuned: Container[str] = ()) -> list[Pair]:
        """Return the pairs (row, its baseline), by the rows' names on the board; a tuned row has a tuned baseline.

        Raises BenchError if several rows match the declared baseline.
        """
        if self.baseline is None:
            return []
        pairs = []
        for name in rows:
            fitting = fitting_rows(self.baseline, name, rows, tuned)
            if len(fitting) > 1:
                raise BenchError(
                    f"the declared baseline {self.baseline!r} fits several rows: {', '.join(fitting)}; "
                    "declare one of them"
                )
            pairs += [(name, fitting[0])] if fitting and fitting != [name] else []
        return pairs

    def declares(self, contrast: str) -> bool:
        """Return whether a contrast, such as `lpft-sd minus ft`, is the primary one or of the family."""
        if self.family is None:
            return contrast == self.primary or contrast.endswith(f"{MINUS}{self.baseline}")
        return contrast in (self.primary, *map(self._in_full, self.family))

    def _in_full(self, name: str) -> str:
        return name if MINUS in name else f"{name}{MINUS}{self.baseline}"

    def roles(self, rows: Sequence[str], tuned: Container[str] = ()) -> dict[Pair, Role]:
        """Return the role of each declared pair of these rows; every other pair is exploratory.

        If a name matches several settings of a method in one study, it means the method's default setting, or none of
        them if that is absent. So a new setting on the board changes no other pair's p-value.
        """
        declared = [(PRIMARY, self.primary)] if self.primary else []
        family = self.family if self.family is not None else rows if self.baseline else ()
        declared += [(FAMILY, self._in_full(name)) for name in family]
        roles: dict[Pair, Role] = {}
        for role, contrast in declared:
            first, second = contrast.split(MINUS)
            for name in [first] if first in rows else [row for row in rows if names_row(first, row)]:
                is_chosen = not _is_method(first) or fitting_rows(first, name, rows, tuned) == [name]
                others = fitting_rows(second, name, rows, tuned)
                if _is_method(second):  # a tuned row beside an untuned baseline is in no study
                    others = [other for other in others if (other in tuned) == (name in tuned)]
                if is_chosen and len(others) == 1 and others != [name] and not {(name, others[0])} & set(roles):
                    roles[name, others[0]] = Role(role, _study(others[0], tuned))
        return roles


def _read_toml(path: Path) -> dict[str, Any] | None:
    """Return the content of a TOML file; None if there is no file. Raises BenchError if it cannot be read."""
    try:
        return tomllib.loads(read_bytes(path).decode("utf-8-sig"))  # some editors add a byte-order mark
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BenchError(f"{path} cannot be read: {error.strerror}") from None
    except RecursionError:
        raise BenchError(f"{path} is not TOML that can be read: lists within lists, too deep") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BenchError(f"{path} is not TOML: {error}") from None


def with_labels(plan_of: Callable[[str, str], BoardPlan], labels: Mapping[str, str]) -> Callable[[str, str], BoardPlan]:
    """Return a function: dataset and task -> plan, whose labels are these and, for other names, those of its file."""

    def labelled(dataset: str, task: str) -> BoardPlan:
        plan = plan_of(dataset, task)
        return replace(plan, labels=checked_labels({**plan.labels, **labels}, "labels")) if labels else plan

    return labelled


def checked_labels(labels: Any, where: str) -> dict[str, str]:
    """Return name -> label; raises BenchError if a label is no single line of text, or if two names share a label."""
    if not isinstance(labels, Mapping) or not all(isinstance(label, str) for label in labels.values()):
        raise BenchError(f'{where} must be names and labels in quotes, such as "own:389512e4" = "pre-trained A"')
    names: dict[str, str] = {}
    for name, label in labels.items():
        if not label.strip() or not label.isprintable():
            raise BenchError(f"{where}: the label of {name!r} must be a line of text, got {label!r}")
        if (other := names.setdefault(label.strip(), name)) != name:
            raise BenchError(f"{where}: {other!r} and {name!r} have the same label {label!r}; give each its own")
    return {name: label for label, name in names.items()}


def _checked_primary(value: Any, where: str) -> str:
    if not isinstance(value, str) or value.count(MINUS) != 1:
        raise BenchError(f'{where} must be a contrast in quotes, such as "lpft-sd minus ft", got {value!r}')
    return value


def _checked_family(value: Any, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise BenchError(f"{where} must be a list of methods, rows or contrasts in quotes, got {value!r}")
    if crossed := [name for name in value if name.count(MINUS) > 1]:
        raise BenchError(f"{where} has {crossed[0]!r}, expected a method, a row or one row minus another")
    return tuple(value)


def _checked_margin(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise BenchError(f"{where} must be a number in [0, 1), got {value!r}")
    return float(value)


def _is_a(kind: type, expected: str) -> Callable[[Any, str], Any]:
    """Return a check that a value has this type; `expected` says so in words."""

    def checked(value: Any, where: str) -> Any:
        if not isinstance(value, kind):
            raise BenchError(f"{where} must be {expected}, got {value!r}")
        return value

    return checked


def _checked_starts(value: Any, where: str) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(file, str) and file.strip() for file in value.values()):
        raise BenchError(f'{where} must be inits and files in quotes, such as "own:389512e4" = "weights.pt"')
    return value


CHECKS: Mapping[str, Callable[[Any, str], Any]] = {
    "primary": _checked_primary,
    "family": _checked_family,
    "baseline": _is_a(str, "a method or a row in quotes"),
    "margin": _checked_margin,
    "preregistered": _is_a(bool, "true or false"),
    "labels": checked_labels,
    "starts": _checked_starts,
}
"""Key of a board's TOML file -> function: value and name of its place -> the value of a plan, or BenchError."""


def _study(second: str, tuned: Container[str]) -> tuple[object, ...]:
    """Return what the pairs of a study share: the backbone, the init, and whether it is tuned, of their second row."""
    return backbone_and_init(second), second in tuned


def fitting_rows(declared: str, row: str, rows: Sequence[str], tuned: Container[str]) -> list[str]:
    """Return the rows that a declared name means beside `row`.

    A method means rows of the same backbone and init, first those that are tuned if and only if `row` is, and of these
    first the method at its defaults.
    """
    if declared in rows:
        return [declared]
    fitting = [other for other in rows if names_row(declared, other)]
    if not _is_method(declared):
        return fitting
    fitting = [other for other in fitting if backbone_and_init(other) == backbone_and_init(row)]
    fitting = [other for other in fitting if (other in tuned) == (row in tuned)] or fitting
    return [other for other in fitting if other.startswith(f"{declared} on ")] or fitting


def _is_method(declared: str) -> bool:
    """Return whether a declared name is a method, and not a row."""
    return not re.search(r" on |\(external\)$", declared)


_ROW = re.compile(r"(?P<method>.+) on (?P<backbone>.+) \((?P<init>[^()]+)\)")
_DECLARED = re.compile(r"(?P<method>.+?)(?: on (?P<backbone>.+?)(?: \((?P<init>[^()]+)\))?)?")


def names_row(declared: str, name: str) -> bool:
    """Return whether a declared name means a row: by method, backbone (any precision), init (`own`, `file`: any such).

    The bare name of a method means every setting of it.
    """
    row, wanted = _ROW.fullmatch(name), _DECLARED.fullmatch(declared)
    if declared == name or row is None or wanted is None:
        return declared == name
    method, backbone, init = wanted.groups()
    return (
        method in (row["method"], row["method"].partition("(")[0])
        and (backbone is None or f"{row['backbone']}, ".startswith(f"{backbone}, "))
        and (init in (None, row["init"]) or (init in ("own", "file") and row["init"].startswith(f"{init}:")))
    )


def backbone_and_init(name: str) -> tuple[str, ...]:
    """Return backbone and init of a row; for scores made elsewhere only the name."""
    row = _ROW.fullmatch(name)
    return (row["backbone"], row["init"]) if row else (name,)


def plan_in(*folders: Path) -> Callable[[str, str], BoardPlan]:
    """Return a function: dataset and task -> plan, from <folder>/<dataset>/<task>.toml in the first folder with one."""

    def plan_of(dataset: str, task: str) -> BoardPlan:
        paths = [folder / dataset / f"{task}.toml" for folder in folders]
        return BoardPlan.load(next(filter(Path.is_file, paths), paths[0]))

    return plan_of
