"""Collect all that the page over tasks says of each study: contrasts, ranks, worth in records and variances."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass

from bench.boards.across import Across, Ranked, across, ranks
from bench.boards.power import Variances, variances_of_study
from bench.boards.rows import Board
from bench.boards.studies import Study, studies_of
from bench.boards.worth import Worth, worth


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
