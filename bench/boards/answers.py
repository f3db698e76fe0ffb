"""Collect all that the page over tasks says of each study: contrasts, ranks, worth in records and variances."""

from __future__ import annotations

import math
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bench.boards.across import Across, Ranked, across, ranks
from bench.boards.power import Variances, variances_of_study
from bench.boards.rows import Board
from bench.boards.studies import Study, studies_of
from bench.boards.worth import Worth, worth

ANSWERS = (
    *("dataset", "study", "backbone", "recipe", "contrast", "tasks", "fractions", "pairs", "draws", "difference"),
    *("low", "high", "better", "better_by_margin", "p", "role", "claim"),
)
"""Columns of `answers_frame`."""


@dataclass(frozen=True)
class StudyAnswers:
    """All that the page says of a study."""

    letter: str
    """The study's name on the page: A, B, ..."""
    study: Study
    answers: Sequence[Across]
    ranked: Ranked | None
    worths: Sequence[Worth]
    variances: Sequence[Variances]

    def answer(self, name: str) -> Across | None:
        """Return the answer about a contrast; None if no runs are paired."""
        return next((answer for answer in self.answers if answer.contrast.name == name), None)


def judged(boards: Sequence[Board]) -> dict[str, list[Board]]:
    """Return data set -> its boards that the page over tasks rests on: recomputed, with rows, and without manifest."""
    known: dict[str, list[Board]] = {}
    for board in boards:
        if board.truth is not None and board.rows and not board.manifest:
            known.setdefault(board.dataset, []).append(board)
    return known


def answers_frame(boards: Sequence[Board]) -> pd.DataFrame:
    """Return what the page over tasks claims: a row for each contrast of each study; ANSWERS are the columns.

    Bounds and probabilities are the wider and the less certain of both ways; NaN with fewer than three runs a task.
    """
    rows = [
        row for dataset, group in judged(boards).items() for each in answers_of(group) for row in _rows(dataset, each)
    ]
    return pd.DataFrame(rows, columns=list(ANSWERS))


def _rows(dataset: str, each: StudyAnswers) -> Iterator[dict[str, Any]]:
    for answer in each.answers:
        both, few = answer.these_tasks, answer.these_tasks.few
        yield {
            "dataset": dataset,
            "study": each.letter,
            "backbone": each.study.backbone,
            "recipe": each.study.recipe + each.study.from_start,
            "contrast": answer.contrast.name,
            "tasks": ", ".join(answer.tasks),
            "fractions": ", ".join(f"{fraction:g}" for fraction in answer.fractions),
            "pairs": answer.num_pairs,
            "draws": answer.num_draws[0],
            "difference": both.value,
            "low": math.nan if few else both.low,
            "high": math.nan if few else both.high,
            "better": math.nan if few else both.better(),
            "better_by_margin": math.nan if few else both.better_by_margin(),
            "p": answer.p_adjusted,
            "role": "" if math.isnan(answer.p_adjusted) else answer.role,
            "claim": answer.claim,
        }


def answers_of(boards: Sequence[Board]) -> list[StudyAnswers]:
    """Return the answers of each study of the boards of one data set that has any, the one with the most runs first."""
    known = [(study, answers) for study in studies_of(boards) if (answers := across(study))]
    return [
        StudyAnswers(
            letter,
            study,
            answers,
            ranks(study),
            [each for method in study.methods for each in worth(study, method)],
            variances_of_study(study),
        )
        for letter, (study, answers) in zip(_letters(), known, strict=False)
    ]


def _letters() -> list[str]:
    """Return A to Z, then AA to ZZ."""
    letters = list(string.ascii_uppercase)
    return letters + [first + second for first in letters for second in letters]
