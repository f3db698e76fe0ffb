"""What a board declares before its results are looked at: baseline, family and margin, from a TOML beside it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BenchError


@dataclass(frozen=True)
class BoardPlan:
    """What a board declares before anyone looks: its baseline, which rows are tested against it, and the margin."""

    baseline: str | None = None
    """`ft`: each row is tested against that method, as it was tuned, on its own backbone and init. Or one row for all,
    `ft on net1d_mini` or more exactly `ft on net1d_mini (own)`. None: no row is tested against another."""
    family: tuple[str, ...] | None = None
    """Rows to test against the baseline, named in the same ways; None: every one."""
    margin: float = 0.005
    """Differences of macro AUROC that do not matter."""

    @classmethod
    def load(cls, path: Path) -> BoardPlan:
        """The plan in a board's TOML file, or the default one where there is none."""
        try:
            document = tomllib.loads(path.read_text(encoding="utf-8-sig"))  # editors add a mark
        except FileNotFoundError:
            return cls()
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise BenchError(f"{path} is not TOML: {error}") from None
        unknown = set(document) - {"baseline", "family", "margin"}
        if unknown:
            raise BenchError(f"{path} has unknown keys {', '.join(sorted(unknown))}; expected baseline, family, margin")
        baseline, family = document.get("baseline"), document.get("family")
        margin = document.get("margin", cls.margin)
        if not isinstance(margin, int | float) or not 0 <= margin < 1:
            raise BenchError(f"{path}: margin must be a number in [0, 1), got {margin!r}")
        if not isinstance(baseline, str | None):
            raise BenchError(f"{path}: baseline must be a method or a row in quotes, got {baseline!r}")
        if family is not None and not (isinstance(family, list) and all(isinstance(one, str) for one in family)):
            raise BenchError(f"{path}: family must be a list of methods or rows in quotes, got {family!r}")
        return cls(baseline, None if family is None else tuple(family), float(margin))

    @property
    def of_same_backbone(self) -> bool:
        """Whether the baseline is a method, and not one row for all."""
        return self.baseline is not None and not re.search(r" on |\(external\)$", self.baseline)

    def absent(self, rows: Sequence[str]) -> list[str]:
        """What was declared to be tested and is no row."""
        return [declared for declared in self.family or () if not any(names_row(declared, name) for name in rows)]

    def contrasts(self, rows: Sequence[str], tuned: Container[str] = ()) -> list[tuple[str, str]]:
        """Each row of the family and its baseline, for rows as boards name them; a tuned row has a tuned baseline.

        Raises BenchError where several rows could be the one baseline.
        """
        found = []
        for name in rows:
            if self.baseline is None or (
                self.family and not any(names_row(declared, name) for declared in self.family)
            ):
                continue
            fitting = [other for other in rows if names_row(self.baseline, other)]
            if self.of_same_backbone and self.baseline not in rows:
                fitting = [other for other in fitting if backbone_and_init(other) == backbone_and_init(name)]
                fitting = [other for other in fitting if (other in tuned) == (name in tuned)] or fitting
                fitting = [other for other in fitting if other.startswith(f"{self.baseline} on ")] or fitting
            if len(fitting) > 1:
                raise BenchError(
                    f"the declared baseline {self.baseline!r} may be any of {', '.join(fitting)}: say which"
                )
            found += [(name, fitting[0])] if fitting and fitting != [name] else []
        return found


_ROW = re.compile(r"(?P<method>.+) on (?P<backbone>.+) \((?P<init>[^()]+)\)")
_DECLARED = re.compile(r"(?P<method>.+?)(?: on (?P<backbone>.+?)(?: \((?P<init>[^()]+)\))?)?")


def names_row(declared: str, name: str) -> bool:
    """Whether a row is meant: by its method, by backbone too (whatever its precision), by init too (`own` or `file`
    for all of these).

    A method's bare name stands for whatever setting of it there is.
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
    """Backbone and init of a row; of scores made elsewhere just the name."""
    row = _ROW.fullmatch(name)
    return (row["backbone"], row["init"]) if row else (name,)
