"""Remember pictures and side pages, under a hash of the results, labels and settings that they show."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

from bench.boards.rows import Board, runs_of
from bench.files import read_bytes, write_at
from bench.results.remembered import keep, key_of, recall


def facts_of(boards: Sequence[Board], anew: bool, *others: object) -> list[object] | None:
    """Return all that pictures and side pages of boards follow from, with `others`.

    None with `anew`, and if a result was not read from a file: then nothing is remembered.
    """
    runs = runs_of(boards)
    if anew or not all(run.sha256 for run in runs):
        return None
    scores = [run.scores_sha256 for board in boards if board.truth for row in board.rows for run in row.runs]
    rows = [[*run.row, run.sha256, run.published] for run in runs]
    where = [
        [board.dataset, board.task, board.fingerprint, board.fraction, board.manifest, board.recomputed]
        for board in boards
    ]
    plans = [dataclasses.asdict(board.plan) for board in boards]
    return [where, rows, scores, plans, version("matplotlib"), version("pandas"), *others]


def remembered_text(what: str, facts: Sequence[object] | None, make: Callable[[], str]) -> str:
    """Return the text that `make` returns, or returned before from the same facts."""
    if facts is None:
        return make()
    key = key_of("text", what, facts)
    if (content := recall(key)) is not None:
        return content.decode()
    text = make()
    keep(key, text.encode())
    return text


def remembered(
    what: str,
    facts: Sequence[object] | None,
    folder: Path,
    write: Callable[[], Sequence[Path]],
) -> list[Path]:
    """Write files into a folder by `write`, or as they were written before from the same facts; return their paths.

    `what` names the function and what else the files follow from. Without facts, the files are written anew.
    """
    if facts is None:
        return list(write())
    key = key_of("pages", what, facts)
    if (content := recall(key)) is not None:
        texts: dict[str, str] = json.loads(content)
        return [write_at(folder / name, text) for name, text in texts.items()]
    written = list(write())
    texts = {path.relative_to(folder).as_posix(): read_bytes(path).decode() for path in written}
    keep(key, json.dumps(texts).encode())
    return written
