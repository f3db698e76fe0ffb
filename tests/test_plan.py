"""A sweep's plan: states of cells, disk space and time."""

from pathlib import Path

import pytest

from bench.cell import Cell
from bench.execute import Options
from bench.launch.plan import BYTES_PER_LABEL, COPIES, Planned, SweepPlan, make_plan, spell_bytes, spell_seconds
from bench.registry.reference import Reference
from bench.training.checkpoint import KEPT


def cell(data: Path, arch: str = "prevalence", **changes: object) -> Cell:
    return Cell(data=data, task="superdiag", arch=Reference(arch), method=Reference("lp"), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59, "59 s"), (60, "1.0 min"), (5400, "1.5 h"), (86400 * 2.5, "2.5 d")]
)
def test_a_duration_has_a_fitting_unit(seconds: float, text: str) -> None:
    assert spell_seconds(seconds) == text


def test_bytes_are_in_mb_or_gb() -> None:
    assert (spell_bytes(1.5e6), spell_bytes(2e9)) == ("1.5 MB", "2.0 GB")


def test_the_time_left_is_that_of_known_cells_over_the_workers() -> None:
    planned = [
        Planned(cell(Path()), "to do", seconds=120.0),
        Planned(cell(Path()), "failed", seconds=60.0),
        Planned(cell(Path()), "to do"),
        Planned(cell(Path()), "done", seconds=9999.0),
    ]
    plan = SweepPlan(planned, 0, 0, 0, {}, [])

    first, total = plan.rows(jobs=2)
    assert first["time left"] == total["time left"] == "1.5 min + 1 cells unknown"
    assert (total["cells"], total["to do"], total["failed"], total["done"]) == (4, 2, 1, 1)
    assert [each.state for each in plan.of("failed", "done")] == ["failed", "done"]


def test_cells_of_one_identity_are_one_and_the_disk_is_counted(demo_set: Path, tmp_path: Path) -> None:
    cells = [cell(demo_set), cell(demo_set, init="random"), cell(demo_set, arch="net1d_mini")]
    plan = make_plan(cells, Options(runs=tmp_path, keep_weights="none"))

    assert [each.state for each in plan.cells] == ["to do", "to do"], "random is the first backbone's default"
    num_parameters = _num_parameters()
    assert plan.run_bytes == (KEPT + 1) * COPIES * 4 * num_parameters
    with_weights = make_plan(cells, Options(runs=tmp_path, keep_weights="best"))
    assert with_weights.result_bytes - plan.result_bytes >= 4 * num_parameters
    assert plan.result_bytes > 2 * 5 * BYTES_PER_LABEL, "five labels, two cells"


def _num_parameters() -> int:
    from bench.execute import make_backbone
    from bench.training.model import count_parameters

    return count_parameters(make_backbone(Reference("net1d_mini")))


def test_published_weights_of_a_backbone_without_any_are_left_out(demo_set: Path, tmp_path: Path) -> None:
    plan = make_plan([cell(demo_set, init="pretrained"), cell(demo_set)], Options(runs=tmp_path))

    assert plan.left_out == 1
    assert len(plan.cells) == 1


def test_a_shard_without_cells_has_a_plan_without_cells(tmp_path: Path) -> None:
    plan = make_plan([], Options(runs=tmp_path))

    assert (plan.cells, plan.rows(1)[-1]["cells"]) == ([], 0)
