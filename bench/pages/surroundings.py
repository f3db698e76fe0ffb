"""Read what stands beside boards: published numbers, claims of papers, and simulated rates."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.boards.simulations import SIMULATIONS
from bench.errors import DataError
from bench.files import read_bytes

REPORTED, CLAIMS = "reported.csv", "claims.csv"


@dataclass(frozen=True)
class Surroundings:
    """Published numbers, claims and simulated rates, read from CSV files in the leaderboards' folder."""

    reported: Sequence[Mapping[str, str]] = ()
    """Rows of reported.csv: task, model, setting, macro_auroc, bracket, low, high, source, protocol, quoted (the source
    that a row repeats) and reason (why the value here differs)."""
    claims: Sequence[Mapping[str, str]] = ()
    """Rows of claims.csv, as `claims.Finding.claim`."""
    simulated: Sequence[Mapping[str, str]] = ()
    """Rows of simulations.csv: task, quantity, setting, percent, error, simulations."""

    @classmethod
    def load(cls, folder: Path) -> Surroundings:
        """Read the three files in `folder`; a missing file counts as empty."""
        return cls(*(read_rows(folder / name) for name in (REPORTED, CLAIMS, SIMULATIONS)))


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read the rows of a CSV file; empty if there is no file. Raises DataError if the file cannot be read."""
    try:
        return list(csv.DictReader(io.StringIO(read_bytes(path).decode(), newline="")))
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
