"""A result.json of a stranger: whatever its fields say, pages stay in their folder and nothing in them is executed."""

import copy
import json
import re
import shlex
import shutil
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.boards.rows import make_boards
from bench.boards.selection import select_rows
from bench.boards.truth import Truth
from bench.cell import Cell
from bench.data.datasets import load_records
from bench.data.tasks import find_task, label_table
from bench.errors import BenchError, DataError
from bench.evaluation.predictions import Predictions
from bench.evaluation.scores import score_fold
from bench.pages.leaderboards import write_leaderboards
from bench.pages.markdown import sentence
from bench.pages.publish import faults_of, publish
from bench.registry.reference import Reference
from bench.results.document import faults, is_command, not_finite, require_printable, unsafe
from bench.results.identity import identity
from bench.results.result import RESULT, load_head, load_result, write_result
from bench.results.status import survey

PUBLISHED = Path(__file__).parent.parent / "leaderboards/ptb-xl-1.0.3/results/superdiag"
SOURCE = sorted(PUBLISHED.glob("net1d_mini-*-0.1-*"))[0]
NOTHING = Truth(Path("no dataset"))
HOSTILE = [
    "../../../escaped/x", "/tmp/escaped", "..", "", ".", "a/b", "a\0b", "CON\n# title", "a | b", "`code",
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "[click](javascript:alert(1))", "a\u202eb",
    "a\x1b[2Jb", "\ud800", "&lt;b&gt;", "$(touch escaped)", "bench run; touch escaped", "bench run && touch escaped",
    "bench run --task 'a' | sh", "bench run `touch escaped`", "x" * 5000, "$x^$", "a]]>b", "_hidden", "a\u2028b",
]  # fmt: skip
VALUES = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(max_size=30),
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.lists(st.sampled_from(HOSTILE), max_size=2),
    st.dictionaries(st.sampled_from(HOSTILE), st.sampled_from(HOSTILE), max_size=2),
)
DOCUMENT = json.loads((SOURCE / "result.json").read_text())


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where in plain data something stands, leaves and what holds them."""
    if path:
        yield path
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(inner, (*path, key))


def changed(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    """Plain data with another value at one place."""
    made = copy.deepcopy(document)
    at = made
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return made


PLACES = [path for path in places({**DOCUMENT, "metrics": {}}) if path[0] != "schema"]


def put(folder: Path, document: Any) -> Path:
    """A run with this result.json, and the predictions of the one that it was made of."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps(document))
    shutil.copyfile(SOURCE / "predictions.npz", folder / "predictions.npz")
    return folder


def harmless(page: str) -> bool:
    """Whether a page has no HTML but ours, no link but those between pages, and no character that moves others."""
    tags = set(re.findall(r"<[A-Za-z/!?][^>]*>?", page)) - {"<details>", "</details>", "<summary>", "</summary>"}
    links = re.findall(r"(?<!\\)\]\(([^)]*)\)", page)
    return (
        not tags
        and all(re.fullmatch(r"[\w./+-]+", link) and ".." not in link for link in links)
        and not re.search("[\x00-\x09\x0b-\x1f\u202a-\u202e\u2066-\u2069]", page)
        and all(line.count("`") % 2 == 0 for line in page.splitlines())
    )


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(path=st.sampled_from(PLACES), value=VALUES, declined=st.booleans())
def test_no_field_of_a_result_gets_out_of_its_page(
    tmp_path: Path, path: tuple[Any, ...], value: Any, declined: bool
) -> None:
    document = changed({**DOCUMENT, "incompatible": "no <b>head</b>" if declined else None}, path, value)
    outer = tmp_path / "outer"
    shutil.rmtree(outer, ignore_errors=True)
    run = put(outer / "runs/a-00000000", document)
    try:
        result = load_result(run)
    except DataError:
        return
    assert not result.document["cell"]["command"] or is_command(result.document["cell"]["command"])
    target = outer / "a/b/c/boards"
    write_leaderboards(make_boards([result], NOTHING), target, NOTHING)
    written = {file for file in outer.rglob("*") if file.is_file() and not file.is_relative_to(run)}
    assert all(file.is_relative_to(target) for file in written)
    for file in written:
        if file.suffix == ".svg":
            kinds = {element.tag.rpartition("}")[2] for element in ElementTree.parse(file).iter()}
            assert not kinds & {"script", "foreignObject", "a", "image"}
        else:
            assert harmless(file.read_text()), file.read_text()


@pytest.fixture(scope="module")
def of_demo(demo_set: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], Truth]:
    """A run with a published result's document, on the demo set, that boards, comparisons and publishing accept."""
    records = load_records(demo_set)
    table = label_table(records, find_task("superdiag"))
    folds = {fold: table.select(table.strat_fold == fold) for fold in (9, 10)}
    scores = {fold: np.random.default_rng(fold).normal(size=part.y_true.shape) for fold, part in folds.items()}
    document = copy.deepcopy(DOCUMENT)
    document["dataset"]["name"], document["task"]["fingerprint"] = records.name, table.fingerprint
    document["metrics"] = {
        f"fold_{fold}": score_fold(part.y_true, scores[fold], part.labels, part.patient_id if fold == 10 else None)
        for fold, part in folds.items()
    }
    document["digest"] = identity(document)
    folder = tmp_path_factory.mktemp("of-demo") / "net1d_mini-ft-seed0-00000000"
    folder.mkdir()
    predictions = {f: Predictions(folds[f].ecg_id, table.labels, scores[f].astype(np.float32)) for f in folds}
    write_result(folder, document, predictions)
    return folder, json.loads((folder / RESULT).read_text()), Truth(demo_set)


NUMBERS = st.one_of(
    st.sampled_from([None, "0.5", "", [], {}, [1, 2], {"a": 1}, True, -1, 0, 2**70, -(2**70), 1e300, -0.5, 2.5]),
    st.sampled_from([float("nan"), float("inf"), -float("inf")]),
)
MISSING = object()


def complaint(action: Callable[[], object]) -> str:
    """The message of the error that an action ends with; empty if it ends well. A bug is raised."""
    try:
        action()
    except BenchError as error:
        return str(error)
    return ""


def without(document: Any, path: tuple[Any, ...]) -> Any:
    """Plain data that lacks one place."""
    made = copy.deepcopy(document)
    at = made
    for key in path[:-1]:
        at = at[key]
    del at[path[-1]]
    return made


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(choice=st.floats(0, 1, exclude_max=True), value=st.one_of(st.just(MISSING), NUMBERS, VALUES))
def test_a_field_of_another_kind_is_named_or_changes_nothing(
    of_demo: tuple[Path, dict[str, Any], Truth], tmp_path: Path, choice: float, value: Any
) -> None:
    source, whole, truth = of_demo
    among = [path for path in places(whole) if path[0] != "schema"]
    path = among[int(choice * len(among))]
    shutil.rmtree(tmp_path / "runs", ignore_errors=True)
    run, other = tmp_path / "runs/superdiag" / source.name, tmp_path / "runs/superdiag/net1d_mini-lp-seed0-11111111"
    for folder, document in (
        (run, without(whole, path) if value is MISSING else changed(whole, path, value)),
        (other, {**whole, "digest": "1" * 64, "cell": {**whole["cell"], "method": "lp"}}),
    ):
        shutil.copytree(source, folder)
        (folder / RESULT).write_text(json.dumps(document))

    assert {cell.path.name for cell in survey(tmp_path / "runs")} == {run.name, other.name}
    if fault := complaint(lambda: load_result(run)):
        assert "\n" not in fault
        assert f"{run / RESULT} is not a result" in fault
        names = [key for key in path if isinstance(key, str)]
        assert any(name in fault for name in names[-2:])
        return
    results = [load_result(run), load_result(other)]
    for action in (
        lambda: write_leaderboards(make_boards(results, truth), tmp_path / "boards", truth),
        lambda: make_boards(results, NOTHING),
        lambda: select_rows([str(result.folder) for result in results], tmp_path / "runs", truth),
    ):
        assert "\n" not in complaint(action)
    copied, found = publish([run], tmp_path / "published", truth)
    assert copied or found
    assert not any("\n" in fault for fault in found)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(place=st.integers(0, 10**6), byte=st.integers(0, 255), kept=st.one_of(st.none(), st.integers(0, 10**4)))
def test_changed_bytes_of_predictions_are_a_line(
    of_demo: tuple[Path, dict[str, Any], Truth], tmp_path: Path, place: int, byte: int, kept: int | None
) -> None:
    source, _, truth = of_demo
    run = tmp_path / "run"
    shutil.copytree(source, run, dirs_exist_ok=True)
    content = bytearray((source / "predictions.npz").read_bytes()[:kept])
    if content:
        content[place % len(content)] = byte
    (run / "predictions.npz").write_bytes(content)
    assert "\n" not in complaint(lambda: make_boards([load_result(run)], truth))


ARRAYS: dict[str, Any] = {
    "labels": [np.zeros((2, 2)), np.array(5), np.array(["A"] * 5), np.array([b"A"] * 5), np.array(["\x1b"] * 5)],
    "fingerprint": [np.zeros(3), np.array(""), np.array(1.5)],
    "ecg_id_fold10": [np.array(3), np.zeros((3, 3)), np.array(["a"]), np.array([1.5]), np.zeros(0, np.int64)],
    "logits_fold10": [np.array(3.0), np.zeros((3, 3, 3)), np.array([["a"]]), np.zeros((2, 5), complex)],
}


@pytest.mark.parametrize(
    ("name", "place"), [(name, place) for name, many in ARRAYS.items() for place in range(len(many))]
)
def test_an_array_of_another_kind_is_a_line(
    of_demo: tuple[Path, dict[str, Any], Truth], tmp_path: Path, name: str, place: int
) -> None:
    source, _, truth = of_demo
    run = tmp_path / "run"
    shutil.copytree(source, run)
    with np.load(source / "predictions.npz") as file:
        arrays = {key: file[key] for key in file.files}
    np.savez(run / "predictions.npz", **{**arrays, name: ARRAYS[name][place]})
    with pytest.raises(DataError, match=r"predictions\.npz|do not fit the fold"):
        make_boards([load_result(run)], truth)


@pytest.mark.parametrize("fold", [9, 10])
def test_predictions_that_lack_a_fold_are_a_line(
    of_demo: tuple[Path, dict[str, Any], Truth], tmp_path: Path, fold: int
) -> None:
    """A changed name of an array once ended a board with KeyError: 10."""
    source, _, truth = of_demo
    run = tmp_path / "run"
    shutil.copytree(source, run)
    with np.load(source / "predictions.npz") as file:
        arrays = {key: file[key] for key in file.files if key != f"ecg_id_fold{fold}"}
    np.savez(run / "predictions.npz", **arrays)

    with pytest.raises(DataError, match=rf"predictions\.npz has no predictions of fold {fold}; run its cell again"):
        _ = load_result(run).predictions
    if fold == 10:
        with pytest.raises(DataError, match=r"predictions\.npz has no predictions of fold 10"):
            make_boards([load_result(run)], truth)


def test_predictions_of_another_fold_or_of_many_bytes_are_refused(
    of_demo: tuple[Path, dict[str, Any], Truth], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    shutil.copytree(of_demo[0], run)
    with np.load(run / "predictions.npz") as file:
        arrays = {key: file[key] for key in file.files}
    np.savez(run / "predictions.npz", **arrays, ecg_id_fold11=arrays["ecg_id_fold10"])
    with pytest.raises(DataError, match=r"folds \[9, 10, 11\]"):
        _ = load_result(run).predictions
    monkeypatch.setattr("bench.results.arrays.MOST_BYTES", 2**20)
    np.savez_compressed(run / "predictions.npz", **arrays, more=np.zeros(2**18))
    with pytest.raises(DataError, match=r"unpacks to 2,\d{3},\d{3} bytes, expected 1,048,576 at most"):
        _ = load_result(run).predictions


@pytest.mark.parametrize("name", ["../../../escaped", "/tmp/escaped", "..", "", "a/b", "a\\b", "a\n"])
@pytest.mark.parametrize("field", [("dataset", "name"), ("cell", "task"), ("task", "name")])
@pytest.mark.parametrize("incompatible", [None, "it has no head"])
def test_a_name_that_is_no_name_is_refused_where_it_is_loaded(
    tmp_path: Path, name: str, field: tuple[str, str], incompatible: str | None
) -> None:
    run = put(tmp_path / "run", changed({**DOCUMENT, "incompatible": incompatible}, field, name))
    for load in (load_result, load_head):
        with pytest.raises(DataError, match=rf"{field[0]}\.{field[1]}"):
            load(run)


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("cell.manifest", "../m.json", r"cell\.manifest is '\.\./m\.json', not the name of a file"),
        ("environment.<b>", 1, "a key of environment has characters that are not allowed in names and numbers: '<b>'"),
        ("environment.a`b", 1, "a key of environment has characters that are not allowed in names and numbers: 'a`b'"),
    ],
)
def test_paths_and_keys_are_names(tmp_path: Path, field: str, value: Any, expected: str) -> None:
    run = put(tmp_path / "run", changed(DOCUMENT, tuple(field.split(".")), value))
    with pytest.raises(DataError, match=expected):
        load_result(run)


def test_a_declined_result_is_held_to_the_dataset(demo_set: Path, tmp_path: Path) -> None:
    document = {**DOCUMENT, "incompatible": "it has no head", "task": {**DOCUMENT["task"], "fingerprint": "0" * 64}}
    run = put(tmp_path / "run", document)

    found = faults_of(load_result(run), Truth(demo_set))
    copied, _ = publish([run], tmp_path / "boards", Truth(demo_set))

    assert [fault for fault in found if "differs from that of the dataset at hand" in fault]
    assert not copied
    assert not (tmp_path / "boards").exists()


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("cell.precision", "float13", "float32, bf16 or float64 or null"),
        ("cell.fraction", "0.1", "a number from 0 to 1"),
        ("cell.seed", -1, "a whole number from 0"),
        ("cell.seed", 2**70, "a whole number from 0"),
        ("cell.draw", True, "a whole number from 0"),
        ("dataset.seconds", 1e-9, "a number from 0.1 to 100,000 or null"),
        ("dataset.seconds", 1e14, "a number from 0.1 to 100,000 or null"),
        ("signals.scaling", [], "keys with values"),
        ("signals.scaling.std", 0, "a finite number above 0"),
        ("init.head", {"w": [10**9, 10**9]}, "a list of sizes of 100 million values at most"),
        ("split.train_records", "1709", "a whole number from 0"),
        ("training", {}, "a list"),
        ("metrics.fold_10.bootstrap.num_draws", 10**9, "a whole number from 2 to 100,000"),
        ("metrics.fold_10.num_patients", None, "a whole number from 0"),
        ("metrics.fold_10.macro.all.auroc.value", 1.5, "a number from 0 to 1 or null"),
        ("metrics.fold_10.macro.all.auroc.value", float("nan"), "a number from 0 to 1 or null"),
        ("metrics.fold_10.macro.all.auroc.value", True, "a number from 0 to 1 or null"),
        ("environment.threads", float("inf"), "a finite number or null"),
        ("environment.loads", [1.0, float("nan")], "a finite number or null"),
    ],
)
def test_a_field_is_named_with_what_it_may_hold(tmp_path: Path, field: str, value: Any, expected: str) -> None:
    run = put(tmp_path / "run", changed(DOCUMENT, tuple(field.split(".")), value))
    with pytest.raises(DataError) as refused:
        load_result(run)
    (words,) = re.findall(rf"{re.escape(field)}\S* is .*?, expected ([^;]*)", str(refused.value))
    assert words == expected


@pytest.mark.parametrize(
    ("field", "named"),
    [
        ("metrics.fold_10", "metrics.fold_10, as its stage is test"),
        ("environment.torch", "environment.torch, as environment has a device"),
        ("metrics.fold_10.macro.frequent", "metrics.fold_10.macro.frequent"),
        ("cell.seed", "cell.seed"),
        ("method.given", "method.given"),
    ],
)
def test_a_field_that_others_need_is_missed(tmp_path: Path, field: str, named: str) -> None:
    run = put(tmp_path / "run", without(DOCUMENT, tuple(field.split("."))))
    with pytest.raises(DataError, match=re.escape(f"it lacks {named}")):
        load_result(run)


@pytest.mark.parametrize("path", sorted(PUBLISHED.glob("*"))[:5], ids=lambda path: path.name)
def test_what_we_have_published_is_read(path: Path) -> None:
    document = json.loads((path / "result.json").read_text())
    assert not [*faults(document), *unsafe(document)]


WORDS = st.one_of(
    st.sampled_from([text for text in HOSTILE if "\0" not in text]),
    st.text(st.characters(exclude_characters="\0"), max_size=20),
)


@settings(deadline=None)
@given(init=WORDS.filter(len), name=WORDS)
def test_a_shell_reads_a_printed_command_as_the_words_of_the_cell(init: str, name: str) -> None:
    cell = Cell(
        data=Path("data"),
        task="form",
        arch=Reference.parse("net1d_mini"),
        method=Reference.parse("scratch(lr=0.01)"),
        init=init,
        manifest=Path(f"{name}.json"),
    )

    words = shlex.split(cell.command())

    assert words[words.index("--init") + 1] == init
    assert words[words.index("--manifest") + 1] == str(Path(f"{name}.json"))
    assert is_command(cell.command())


@pytest.mark.parametrize("text", [t for t in HOSTILE if t.startswith("bench")] + ["rm x", "bench run $(x)", "bench 'a"])
def test_what_is_no_single_call_is_no_command(text: str) -> None:
    assert not is_command(text)


def test_a_result_that_could_not_be_read_is_refused_before_the_work() -> None:
    require_printable(DOCUMENT)
    with pytest.raises(BenchError, match=r"task\.labels"):
        require_printable(changed(DOCUMENT, ("task", "labels", 0), "<b>NORM</b>"))


@pytest.mark.parametrize("place", [("cell", "arch"), ("cell", "method"), ("init", "name"), ("task", "labels", 0)])
@pytest.mark.parametrize("text", ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)"])
def test_no_name_is_a_formula_in_the_csv_files(tmp_path: Path, place: tuple[Any, ...], text: str) -> None:
    run = put(tmp_path / "run", changed(DOCUMENT, place, text))
    with pytest.raises(DataError, match=r"which a spreadsheet takes for a formula"):
        load_result(run)


def test_predictions_that_are_not_finite_name_their_file(
    of_demo: tuple[Path, dict[str, Any], Truth], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(of_demo[0], run)
    with np.load(run / "predictions.npz") as file:
        arrays = {key: file[key] for key in file.files}
    arrays["logits_fold10"][3, 1] = np.inf
    np.savez(run / "predictions.npz", **arrays)
    record = arrays["ecg_id_fold10"][3]
    with pytest.raises(DataError, match=rf"predictions\.npz, fold 10: record {record} has a NaN or infinite score"):
        _ = load_result(run).predictions


def test_free_text_stays_one_harmless_line() -> None:
    text = sentence("no <b>head</b>,\n\n# but [a](b) and 3 < 4")
    assert text == r"no &lt;b>head&lt;/b>, # but [a\](b) and 3 < 4"


def test_a_field_with_a_line_break_in_its_name_is_a_line(of_demo: tuple[Path, dict[str, Any], Truth]) -> None:
    _, whole, _ = of_demo
    for value in ("a\0b", float("nan")):
        wrong = [*faults(strange := {**whole, "cell": {**whole["cell"], "CON\n# title": value}}), *not_finite(strange)]
        assert wrong and not any("\n" in fault for fault in wrong)
        assert any("cell.CON # title" in fault for fault in wrong)


def test_a_readme_that_is_no_index_of_boards_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# My project\n")
    with pytest.raises(BenchError, match=r"README\.md is another text and would be replaced by the boards' index"):
        write_leaderboards([], tmp_path, NOTHING)
    assert (tmp_path / "README.md").read_text() == "# My project\n"
    write_leaderboards([], tmp_path / "boards", NOTHING)
    write_leaderboards([], tmp_path / "boards", NOTHING)
    assert (tmp_path / "boards/README.md").read_text().startswith("# Leaderboards")
