"""Labels by which results are scored: the dataset's own, if the fingerprint is the result's."""

from pathlib import Path

from bench.boards.truth import Truth
from bench.data.datasets.ptbxl import load_records
from bench.data.splits import held_out
from bench.data.tasks import find_task, label_table
from bench.results.result import Result


def result_of(fingerprint: str, dataset: str, task: str = "superdiag") -> Result:
    """As much of a result as the truth is chosen by."""
    document = {"task": {"fingerprint": fingerprint}, "dataset": {"name": dataset}, "cell": {"task": task}}
    return Result(Path("somewhere"), document)


def test_the_truth_is_the_datasets_own_and_only_if_it_fits(demo_set: Path, tmp_path: Path) -> None:
    records = load_records(demo_set)
    table = label_table(records, find_task("superdiag"))
    truth = Truth(demo_set)
    found = truth(result_of(table.fingerprint, records.name))

    assert found is not None
    assert found.ecg_id.tolist() == held_out(table).ecg_id.tolist()
    assert truth(result_of("0" * 64, records.name)) is None
    assert truth(result_of(table.fingerprint, "ptb-xl-1.0.3")) is None
    assert truth(result_of(table.fingerprint, records.name, task="of-a-plugin-that-is-gone")) is None
    assert Truth(tmp_path / "nowhere")(result_of(table.fingerprint, records.name)) is None
