"""Python: what `import bench` offers, in a script, with plugins that are not installed, beside published rows."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

import bench
from bench.boards.answers import ANSWERS
from bench.boards.frames import PAIRS, RESULTS, ROWS, RunResult
from bench.demo.dataset import write_demo
from bench.errors import BenchError, PluginError
from bench.plugin import Method, Phase, register_method
from bench.registry import registry as registering
from bench.results.result import find_published

QUIET = Console(quiet=True)
CELL = {"task": "superdiag", "arch": "prevalence", "precision": "float32", "console": QUIET}
LP, FT = "lp(probe_epochs=2)", "ft(finetune_epochs=1)"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic PTB-XL with frequent labels in fold 10."""
    folder = tmp_path_factory.mktemp("data") / "demo"
    write_demo(folder, 700, seed=2, rates=(100,))
    return folder


@pytest.fixture(scope="module")
def runs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two methods with three seeds each."""
    folder = tmp_path_factory.mktemp("runs")
    for seed in range(3):
        for method in (LP, FT):
            bench.run(method, data=data, runs=folder, seed=seed, **CELL)
    return folder


def test_import_is_light_and_lists_what_there_is() -> None:
    heavy_ones = "(n for n in ('torch', 'pandas', 'rich', 'numpy') if n in sys.modules)"
    code = f"import sys, bench; print(*{heavy_ones}); print(*dir(bench))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy, names = done.stdout.split("\n")[:2]

    assert not heavy
    assert {"run", "sweep", "tune", "compare", "leaderboard", "load_results", "score"} <= set(names.split())
    assert all(getattr(bench, name).__doc__ for name in bench.__all__)
    with pytest.raises(AttributeError, match="no attribute 'swep'"):
        _ = bench.swep


def test_a_run_shows_what_it_scored_predicted_and_learnt(runs: Path, data: Path) -> None:
    result = bench.run(LP, data=data, runs=runs, **CELL)  # a second time in one process: loaded

    assert isinstance(result, RunResult)
    assert result.name == f"{LP} on prevalence (random)"
    recorded = json.loads((result.folder / "result.json").read_text())
    metrics = result.metrics.set_index(["fold", "label"])
    for fold in (9, 10):
        for label in ("CD", "HYP", "MI", "NORM", "STTC"):
            of_label = recorded["metrics"][f"fold_{fold}"]["labels"][label]
            assert metrics.loc[(fold, label), "positives"] == of_label["num_positives"]
            assert metrics.loc[(fold, label), "auroc"] == of_label["auroc"]["value"]
    assert metrics.loc[(10, "macro, all labels"), "labels"] == 5

    table = result.predictions
    logits = result.result.predictions[10]
    assert table.index.name == "ecg_id"
    of_test = table[table["fold"] == 10].drop(columns="fold")
    np.testing.assert_allclose(
        of_test.loc[logits.ecg_id, list(logits.labels)], 1 / (1 + np.exp(-logits.logits)), rtol=1e-6
    )

    assert list(result.curves["epoch"]) == [1, 2]
    assert result.curves["selected"].sum() == 1
    assert result.curves["train_loss"].tolist() == recorded["training"][0]["train_loss"]
    page = result._repr_html_()
    assert page.count("<tr") == 1 + len(result.metrics)
    assert "lp(probe_epochs=2) on prevalence (random)" in page


def test_weights_that_were_not_kept_are_told(data: Path, tmp_path: Path) -> None:
    """A finished run is not repeated for them, and says how to have them."""
    heard = Console(file=io.StringIO(), width=200)
    how = {**CELL, "console": heard, "data": data, "runs": tmp_path}
    bench.run(LP, **how, keep_weights="none")
    assert "kept its weights" not in heard.file.getvalue()
    bench.run(LP, **how)
    told = "note: this finished run has not kept its weights; --overwrite runs it again and keeps them"
    assert heard.file.getvalue().count(told) == 1
    bench.run(LP, **how, overwrite=True)
    bench.run(LP, **how)
    assert heard.file.getvalue().count(told) == 1


def test_frames_have_the_documented_columns_and_the_numbers_of_the_results(runs: Path, data: Path) -> None:
    page = (Path(bench.__file__).parent / "README.md").read_text(encoding="utf-8")
    frame = bench.load_results(runs)
    board = bench.leaderboard(runs, data=data)
    named = bench.compare("lp", "ft", runs=runs, data=data)

    frames = (RESULTS, frame), (ROWS, board.rows), (PAIRS, board.pairs), (ANSWERS, board.answers)
    for names, table in (*frames, (PAIRS[4:], named.differences)):
        assert list(table.columns) == list(names)
        assert not [name for name in names if f"`{name}`" not in page]
    assert frame["auroc_all"].notna().all()
    assert sorted(frame["seed"]) == [0, 0, 1, 1, 2, 2]
    assert not frame["published"].any()
    assert frame["installed"].all()
    assert dict(zip(board.rows["method"], board.rows["runs"], strict=True)) == {LP: 3, FT: 3}
    pair, alone = board.pairs.iloc[0], named.differences.iloc[0]
    turned = 1 if pair["first"] == alone["first"] else -1
    assert pair["difference"] == pytest.approx(turned * alone["difference"])
    assert pair["p"] == pytest.approx(alone["p"])
    frequent = bench.run(LP, data=data, runs=runs, **CELL).metrics.query("fold == 10 and positives >= 10")["label"]
    assert {*named.labels["label"]} == {*frequent}


def test_the_command_line_prints_what_python_returns(runs: Path, data: Path, tmp_path: Path) -> None:
    words = ["leaderboard", f"--runs={runs}", f"--data={data}", f"--out={tmp_path}", "--json"]
    done = subprocess.run([sys.executable, "-m", "bench", *words], capture_output=True, text=True, check=True)

    rows = bench.leaderboard(runs, data=data).rows
    (printed,) = json.loads(done.stdout)
    assert [row["name"] for row in printed["rows"]] == rows["row"].tolist()


def test_boards_are_written_for_a_paper(runs: Path, data: Path, tmp_path: Path) -> None:
    words = ["leaderboard", f"--runs={runs}", f"--data={data}", f"--out={tmp_path}", "--format=csv,tex"]
    words += ["--format", "json", "--pictures=pdf,png", "--label", "random=no pre-training", "--label", f"{LP}=probe"]
    done = subprocess.run([sys.executable, "-m", "bench", *words], capture_output=True, text=True, check=True)
    board = bench.leaderboard(runs, data=data)

    for name, frame in (("results", board.results), ("rows", board.rows), ("comparisons", board.pairs)):
        written = pd.read_csv(tmp_path / f"{name}.csv")
        assert list(written) == list(frame)
        assert len(written) == len(frame) > 0
        numbers = frame.select_dtypes("number")
        assert len(numbers.columns) > 5
        pd.testing.assert_frame_equal(written[[*numbers]], numbers, check_dtype=False)
    assert pd.read_csv(tmp_path / "rows.csv")["row"].tolist() == board.rows["row"].tolist()  # the full names
    assert list(pd.read_csv(tmp_path / "answers.csv")) == list(ANSWERS), "without a pre-trained row no answer"
    (table,) = tmp_path.glob("*/superdiag.tex")
    text = table.read_text()
    assert "probe &" in text
    assert "Names given here: no pre-training is random; probe is lp" in text
    (document,) = json.loads((tmp_path / "leaderboards.json").read_text())
    assert [row["name"] for row in document["rows"]] == board.rows["row"].tolist()
    pictures = list(table.parent.glob("pictures/*"))
    assert {path.name for path in pictures} == {
        f"superdiag-1-{name}.{ending}"
        for name in ("forest", "labels", "curves", "cost", "reliability")
        for ending in ("pdf", "png")
    }
    starts = {".pdf": b"%PDF", ".png": b"\x89PNG"}
    assert all(path.read_bytes().startswith(starts[path.suffix]) for path in pictures)
    assert f"{len(pictures)} pictures" in done.stdout
    assert not list(tmp_path.rglob("*.md")), "pages were not asked for"


def test_pages_show_labels_and_say_what_they_stand_for(runs: Path, data: Path, tmp_path: Path) -> None:
    board = bench.leaderboard(runs, data=data, labels={LP: "probe"})
    paths = board.write(tmp_path)
    (page,) = (path.read_text() for path in paths if path.name == "superdiag.md")
    (forest,) = (path.read_text() for path in paths if path.name.endswith("forest.svg"))

    assert "| probe |" in page
    side = [path.read_text() for path in paths if path.stem.endswith(("-calibration", "-subgroups"))]
    assert len(side) == 2
    assert all(f"Names given here: probe is {LP}." in text for text in (page, *side))
    assert "probe on prevalence (random)" in forest
    with pytest.raises(BenchError, match="no format 'xml'; expected md, csv, tex, json, html"):
        board.write(tmp_path, ["csv", "xml"])
    with pytest.raises(BenchError, match="no kind of picture 'gif'; expected svg, pdf, png"):
        board.write(tmp_path, pictures="gif")
    with pytest.raises(BenchError, match=r"no backbone, init or method of a row is 'rendom'; there is random$"):
        bench.leaderboard(runs, data=data, labels={"rendom": "A"})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--label", "own:389512e4"], 'expected NAME="label"'),
        (["--check", "--format", "tex"], "--check writes nothing"),
    ],
)
def test_words_of_a_paper_that_mean_nothing_are_refused(words: list[str], message: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench", "leaderboard", f"--runs={tmp_path}", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert message in done.stderr


PLUGIN = '''
from dataclasses import dataclass
from bench.plugin import Method, Phase, Task, register_method, register_task

labels_of = lambda code, row: ["CD"] * (row["diagnostic_class"] == "CD")
register_task(Task("cd", "conduction", labels_of, keeps_unlabeled=True))

@register_method("brief")
@dataclass(frozen=True)
class Brief(Method):
    """Train the head for an epoch."""

    lr: float = 0.001

    def phases(self, layer_groups):
        return [Phase(name="all", learning_rates={"head": self.lr}, epochs=1)]
'''


@pytest.fixture
def own_plugins() -> Iterator[None]:
    """Forgets at the end what a test has registered."""
    registering.registry()
    known = dict(registering._REGISTRY.plugins)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(registering.PLUGIN_FILES, "")
        yield
    registering._REGISTRY.plugins = known
    for name in [name for name in sys.modules if name.endswith(".py")]:
        del sys.modules[name]


def test_a_plugin_file_runs_everywhere_and_is_marked(
    own_plugins: None, demo_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(PLUGIN)
    bench.load_plugin("mine.py")
    bench.load_plugin("mine.py")  # once is enough
    swept = bench.sweep(["brief", FT], "cd", "prevalence", data=demo_set, seed=[0, 1], jobs=2, console=QUIET)

    frame = swept.frame.sort_values(["method", "seed"])
    assert frame["state"].tolist() == ["done"] * 4
    assert not frame["installed"].any()  # the task is from the file too
    document = json.loads((Path(frame["folder"].iloc[0]) / "result.json").read_text())
    code = registering.find("method", "brief").code_hash
    assert document["method"]["distribution"] == document["task"]["distribution"] == "mine.py, not installed"
    assert document["method"]["code_sha256"] == code
    assert len(code) == 64
    assert "--plugin mine.py" in document["cell"]["command"]
    page = "\n".join(
        path.read_text() for path in bench.leaderboard("runs", data=demo_set).write("pages") if path.stem == "cd"
    )
    assert f"Not installed, so others cannot run it: task cd (mine.py, SHA-256 {code[:8]}), method brief" in page
    (row,) = [row for row in bench.leaderboard("runs", data=demo_set).boards[0].rows if row.method == "brief"]
    assert bench.leaderboard("runs", data=demo_set).boards[0].plan.baseline == "ft"  # nothing is declared for this task

    from bench.boards.truth import Truth
    from bench.pages.publish import faults_of

    assert (
        "its method, backbone, task or data set is from a file that is not installed: put it into a package"
        in faults_of(row.runs[0], Truth(demo_set))
    )


@pytest.mark.slow
def test_a_plugin_file_is_given_on_the_command_line(demo_set: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(PLUGIN)
    words = ["run", "--plugin", "mine.py", "--method", "brief(lr=0.01)", "--task", "cd", "--arch", "prevalence"]
    done = subprocess.run(
        [sys.executable, "-m", "bench", *words, f"--data={demo_set}", "--json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["method"]["resolved"] == {"lr": 0.01}

    listed = subprocess.run(
        [sys.executable, "-m", "bench", "list", "methods", "--plugin=mine.py", "--json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    (entry,) = [one for one in json.loads(listed.stdout)["methods"] if one["name"] == "brief"]
    assert entry["from"] == "mine.py, not installed"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("gone.py", None, "no plugin at gone.py: expected a .py file"),
        ("notes.txt", "", "no plugin at notes.txt"),
        ("no_python.py", "def f(:", r"^no_python\.py: SyntaxError: invalid syntax \(no_python\.py, line 1\)$"),
        ("lacking.py", "import not_there", "^lacking.py: ModuleNotFoundError: No module named 'not_there'$"),
        ("taken.py", PLUGIN.replace('"brief"', '"ft"'), "'ft' is already registered by methods.full_finetune"),
    ],
)
def test_a_plugin_file_that_cannot_be_used_is_named(
    own_plugins: None, name: str, text: str | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if text is not None:
        Path(name).write_text(text)
    with pytest.raises(PluginError, match=message):
        bench.load_plugin(name)
    assert os.environ[registering.PLUGIN_FILES] == ""


SCRIPT = f'''
from dataclasses import dataclass
import bench
from bench.plugin import Method, Phase, register_method

@register_method("mine")
@dataclass(frozen=True)
class Mine(Method):
    """Train the head for an epoch."""

    lr: float = 0.001

    def phases(self, layer_groups):
        return [Phase(name="all", learning_rates={{"head": self.lr}}, epochs=1)]

result = bench.run(Mine(lr=0.01), "superdiag", "prevalence", data="DATA")
print(result.document["method"]["distribution"], result.document["cell"]["method"])
print(len(bench.sweep([Mine, "{LP}"], "superdiag", "prevalence", data="DATA", seed=0).frame))
print(bench.sweep("{LP}", "superdiag", "prevalence", data="DATA", seed=[1, 2], jobs=2).frame["state"].tolist())
'''


@pytest.mark.slow
def test_a_script_without_a_guard_may_define_a_method_and_start_processes(demo_set: Path, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT.replace("DATA", str(demo_set)))
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line]
    assert lines == ["script.py, not installed mine(lr=0.01)", "2", "['done', 'done']"]  # each line once
    assert "mine: defined in a notebook or a script, which other processes cannot import" in done.stderr


def test_a_class_that_is_not_registered_is_named(demo_set: Path) -> None:
    class Mine(Method):
        """Not registered."""

    with pytest.raises(PluginError, match=r'Mine is no registered method: write @register_method\("a-name"\)'):
        bench.run(Mine, data=demo_set, **CELL)


def test_a_notebooks_class_has_the_hash_of_its_cell(own_plugins: None) -> None:
    """As IPython runs a cell: in `__main__`, whose lines it keeps in `linecache`."""
    import hashlib
    import linecache
    import types

    cell = PLUGIN.partition("@register_method")[2].join(["from dataclasses import dataclass\n@register_method", ""])
    main = types.ModuleType("__main__")
    main.__dict__.update(register_method=register_method, Method=Method, Phase=Phase)
    linecache.cache["<cell 1>"] = (len(cell), None, cell.splitlines(keepends=True), "<cell 1>")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "__main__", main)
        exec(compile(cell, "<cell 1>", "exec"), main.__dict__)
        plugin = registering.find("method", "brief")

        assert plugin.code_hash == hashlib.sha256(cell.encode()).hexdigest()
        assert plugin.distribution == "notebook, not installed"
    del linecache.cache["<cell 1>"]


@pytest.mark.slow
@pytest.mark.ptbxl
def test_scores_of_a_data_frame_stand_among_the_published_rows(ptbxl: Path, tmp_path: Path) -> None:
    theirs = next(one for one in find_published() if one.cell["arch"] == "fcn_wang" and one.cell["task"] == "superdiag")
    frame = RunResult(theirs).predictions.query("fold == 10").drop(columns="fold")
    mine = bench.score(frame, "superdiag", "Their model", scale="probability", data=ptbxl, runs=tmp_path)
    np.testing.assert_allclose(
        mine.metrics.query("fold == 10")["auroc"], RunResult(theirs).metrics.query("fold == 10")["auroc"], atol=1e-9
    )

    rows = bench.leaderboard(tmp_path, include_published=True, data=ptbxl).rows
    assert rows["published"].sum() == len(rows) - 1 > 5
    assert set(rows["fraction"]) == {1.0}  # boards of published rows alone are left out
    found = bench.compare("their", "scratch on fcn_wang", include_published=True, runs=tmp_path, data=ptbxl)
    assert abs(found.differences["difference"].item()) < 1e-9
    with pytest.raises(
        bench.BenchError, match=r"'Their model' is on --task superdiag --fraction 1 on ptb-xl-1.0.3; 'lpft'"
    ):
        bench.compare("Their model", "lpft", include_published=True, runs=tmp_path, data=ptbxl, task="superdiag")


def test_published_results_alone_are_a_frame(tmp_path: Path) -> None:
    frame = bench.load_results(tmp_path / "none", include_published=True)
    assert len(frame) == len(find_published()) > 100
    assert frame["published"].all()
    assert isinstance(frame, pd.DataFrame)


def test_a_dry_run_of_a_tuning_has_its_trials_and_runs_none(data: Path, tmp_path: Path) -> None:
    asked = {"data": data, "runs": tmp_path / "runs", "precision": "float32", "console": QUIET}
    tuned = bench.tune("lp", "superdiag", 3, "prevalence", dry_run=True, **asked)

    assert [row["state"] for row in tuned.planned] == ["to do"] * 3
    assert tuned.planned[0]["setting"] == "lp"
    assert all(row["setting"] in repr(tuned) for row in tuned.planned)
    assert tuned.trials.empty
    assert not (tmp_path / "runs").exists()
