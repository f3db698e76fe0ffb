"""What a cell leaves: `result.json` and `predictions.npz` in a folder that exists only when they are whole."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from bench.errors import BenchError, DataError
from bench.evaluation.predictions import Predictions

SCHEMA = 1
RESULT, PREDICTIONS, UNFINISHED = "result.json", "predictions.npz", ".unfinished"
SECTIONS = ("schema", "digest", "stage", "cell", "dataset", "task", "incompatible")


@dataclass(frozen=True, eq=False)
class Result:
    """A finished cell. Its metrics are a cache of its predictions; the truth is the dataset's."""

    folder: Path
    document: Mapping[str, Any]
    """What result.json holds."""

    @property
    def digest(self) -> str:
        return str(self.document["digest"])

    @property
    def cell(self) -> Mapping[str, Any]:
        """The cell as asked for: task, arch, method, init, fraction, draw, seed, command, ..."""
        return self.document["cell"]  # type: ignore[no-any-return]

    @property
    def fingerprint(self) -> str:
        return str(self.document["task"]["fingerprint"])

    @property
    def incompatible(self) -> str | None:
        """Why the method declined this backbone, or None."""
        return self.document["incompatible"]  # type: ignore[no-any-return]

    @property
    def row(self) -> tuple[str, str, str]:
        """Backbone, init and method as a board shows them: runs that differ in seed and draw only share a row."""
        return self.cell["arch"], self.document["init"]["name"], self.cell["method"]

    @cached_property
    def predictions(self) -> dict[int, Predictions]:
        """Fold -> scores of that fold's records."""
        path = self.folder / PREDICTIONS
        try:
            with np.load(path, allow_pickle=False) as file:
                labels = tuple(str(label) for label in file["labels"])
                if str(file["fingerprint"]) != self.fingerprint:
                    raise DataError(f"{path} is of another task or dataset than the {RESULT} beside it")
                folds = [int(name.removeprefix("ecg_id_fold")) for name in file.files if name.startswith("ecg_id_")]
                return {f: Predictions(file[f"ecg_id_fold{f}"], labels, file[f"logits_fold{f}"]) for f in folds}
        except FileNotFoundError:
            raise DataError(f"{path} is missing") from None
        except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise DataError(f"{path} is not a predictions file: {error}") from None


class RunFolder:
    """The folder of a cell: `NAME.unfinished` while it runs, `NAME` once all is in it.

    So a folder without that ending is whole, whatever happened. While it runs, a lock keeps other processes out.
    """

    def __init__(self, final: Path, stage: str, is_main: bool) -> None:
        self.final = final.with_name(final.name + ("-val" if stage == "val" else ""))
        self.path = self.final.with_name(self.final.name + UNFINISHED)
        self._is_main = is_main
        self._lock = FileLock(self.final.with_name(f".{self.final.name}.lock"), blocking=False)

    def finished(self) -> Result | None:
        """The cell's result, if it has one."""
        return load_result(self.final) if self.final.is_dir() else None

    def __enter__(self) -> RunFolder:
        if self._is_main:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                self._lock.acquire()
            except Timeout:
                raise BenchError(f"another process is running this cell in {self.path}") from None
            except PermissionError:
                raise BenchError(f"cannot write to {self.path.parent}; --runs names another folder") from None
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def finish(
        self, document: Mapping[str, Any], predictions: Mapping[int, Predictions], keep: Sequence[str] = ()
    ) -> Result:
        """Write the result, drop what is not kept, and give the folder its final name."""
        if self._is_main:
            write_result(self.path, document, predictions)
            for path in self.path.iterdir():
                if path.name not in (RESULT, PREDICTIONS, "log.jsonl", "wandb", *keep):
                    path.unlink()
            if self.final.is_dir():
                shutil.rmtree(self.final)
            self.path.rename(self.final)
        return Result(self.final, {"schema": SCHEMA, **document})


def write_result(folder: Path, document: Mapping[str, Any], predictions: Mapping[int, Predictions]) -> None:
    """Write both files into the folder of an unfinished run; the caller renames it when all is there."""
    if predictions:
        arrays: dict[str, Any] = {"fingerprint": np.array(document["task"]["fingerprint"])}
        for fold, scores in predictions.items():
            arrays["labels"] = np.array(scores.labels)
            arrays[f"ecg_id_fold{fold}"], arrays[f"logits_fold{fold}"] = scores.ecg_id, scores.logits
        np.savez_compressed(folder / PREDICTIONS, **arrays)
    text = json.dumps({"schema": SCHEMA, **document}, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    (folder / RESULT).write_text(text, encoding="utf-8")


def load_result(folder: Path) -> Result:
    """The result in a run's folder."""
    path = folder / RESULT
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"no finished run at {folder}: {RESULT} is missing") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is damaged: {error}") from None
    missing = [name for name in SECTIONS if name not in document] if isinstance(document, dict) else list(SECTIONS)
    if missing:
        raise DataError(f"{path} is not a result: it lacks {', '.join(missing)}")
    if document["schema"] != SCHEMA:
        raise DataError(f"{path} has schema {document['schema']}; this version of bench reads schema {SCHEMA}")
    return Result(folder, document)


def find_results(runs: Path) -> Iterator[Result]:
    """Every finished run below a folder, in the order of their paths."""
    if not runs.is_dir():
        raise DataError(f"no runs at {runs}; `bench run` writes them, --runs names another folder")
    for path in sorted(runs.rglob(RESULT)):
        if not path.parent.name.endswith(UNFINISHED):
            yield load_result(path.parent)
