"""The command line: what each verb prints, and that a mistake is one line, exit code 2 and nothing half-written."""

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

import bench.cli
from bench.boards.truth import Truth
from bench.errors import BenchError
from bench.execute import build_backbone, build_model
from bench.pages.leaderboards import write_leaderboards
from bench.registry.reference import Reference
from bench.results.result import find_results
from bench.training.weights import save_weights

EXACT = ("--precision", "float32")  # where bf16 is to be had, it is the default
LP = ("--task", "superdiag", "--arch", "net1d_mini", "--method", "lp(probe_epochs=2)", *EXACT)
QUICK = ("--task", "superdiag", "--arch", "prevalence", "--method", "lp(probe_epochs=2)", *EXACT)


class Said(NamedTuple):
    """What a command left on the terminal."""

    code: int
    out: str
    err: str


class Bench:
    """The command line in this process, and in one of its own."""

    def __init__(self, patch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self.patch, self.capfd = patch, capfd

    def __call__(self, *words: object) -> Said:
        self.patch.setattr(sys, "argv", ["bench", *map(str, words)])
        self.capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            bench.cli.main()
        out, err = self.capfd.readouterr()
        assert end.value.code is None or isinstance(end.value.code, int)
        return Said(end.value.code or 0, out, err)


@pytest.fixture
def run_bench(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Bench:
    """Runs `bench WORDS` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BENCH_DATA", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    return Bench(monkeypatch, capfd)


def in_a_process(*words: object, cwd: Path) -> Said:
    """The same in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "bench", *map(str, words)], cwd=cwd, capture_output=True, text=True, timeout=300
    )
    return Said(done.returncode, done.stdout, done.stderr)


def assert_one_line(said: Said, *parts: str) -> None:
    """A user's error: exit code 2 and one line that begins with `error:` and holds these parts."""
    assert said.code == 2, said
    lines = said.err.strip().splitlines()
    assert len(lines) == 1, said.err
    assert lines[0].startswith("error: ")
    for part in parts:
        assert part in lines[0]
    assert not said.out


def assert_nothing_left(folder: Path) -> None:
    """No result, no unfinished run, nothing temporary; not in the cache either."""
    left = [path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".lock")]
    assert left == []
    cache = Path(os.environ["BENCH_CACHE"])
    assert [path for path in cache.iterdir() if path.name.startswith(".") and not path.name.endswith(".lock")] == []


def copy_of(data: Path, folder: Path, *, signals: str = "link") -> Path:
    """A dataset to damage: its tables copied, its 100 Hz signals linked or copied, none at 500 Hz."""
    folder.mkdir()
    for table in ("ptbxl_database.csv", "scp_statements.csv"):
        shutil.copy(data / table, folder / table)
    if signals == "link":
        (folder / "records100").symlink_to(data / "records100")
    else:
        shutil.copytree(data / "records100", folder / "records100")
    return folder


def test_help_is_quick_and_needs_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv = ['bench', '--help']\n"
        "from bench.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        "assert 'torch' not in sys.modules and 'pandas' not in sys.modules\n"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)

    assert done.returncode == 0, done.stderr
    for verb in ("run", "list", "leaderboard", "predict", "check", "data"):
        assert verb in done.stdout
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0


@pytest.mark.parametrize("group", [[], ["data"], ["new"]])
def test_help_fits_80_columns(run_bench: Bench, group: list[str]) -> None:
    """No command's one line is cut."""
    run_bench.patch.setenv("COLUMNS", "80")
    said = run_bench(*group, "--help").out

    assert "Commands:" in said and "..." not in said.partition("Commands:")[2]
    assert max(map(len, said.splitlines())) <= 80


def test_options_have_room_for_what_they_mean(run_bench: Bench) -> None:
    run_bench.patch.setenv("COLUMNS", "80")

    assert (
        "  --fraction <float>              Fraction of the training records, in (0, 1]."
        in run_bench("run", "--help").out
    )


@pytest.mark.parametrize("words", [["archs"], ["tasks", "--data", "DEMO"]])
def test_lists_have_room_for_what_they_name(run_bench: Bench, demo_set: Path, words: list[str]) -> None:
    run_bench.patch.setenv("COLUMNS", "80")
    lines = run_bench("list", *(word.replace("DEMO", str(demo_set)) for word in words)).out.splitlines()

    at = next(at for at, line in enumerate(lines) if line.startswith((" net1d_mini ", " superdiag ")))
    assert len(lines[at].split()) > 4
    assert lines[at + 1].startswith(("   A small Net1D at 100 Hz, about 1 M parameters", "   diagnostic superclasses"))


def test_a_new_backbone_goes_by_both_its_names(run_bench: Bench, tmp_path: Path) -> None:
    for word in ("arch", "backbone"):
        assert run_bench("new", word, f"my-{word}").code == 0
        assert f'@register_backbone("my-{word}")' in (tmp_path / f"my-{word}" / f"my_{word}.py").read_text()


def test_a_check_of_a_folder_that_is_not_there_says_so(run_bench: Bench) -> None:
    assert_one_line(run_bench("check", "data/nope"), "no data set at data/nope: there is no such folder")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ((*LP,), ["no dataset at data/ptb-xl", "--data DIR", "bench data demo"]),
        ((*LP, "--data", "nowhere"), ["no dataset at nowhere"]),
        ((*LP, "--task", "hypertrophies", "--data", "nowhere"), ["no dataset at nowhere", "--data DIR"]),
        ((*LP, "--task", "hypertrophies", "--data", "."), ["is no data set known here"]),
        (
            (*LP, "--data", "DEMO", "--task", "superdaig"),
            ["unknown task 'superdaig'. Did you mean 'superdiag'? Known: all, cpsc2018, diag"],
        ),
        ((*LP, "--method", "lp_tf"), ["unknown method 'lp_tf'. Did you mean 'lpft'? Known: adapter, "]),
        ((*LP, "--method", "lp(probe_epochs=2),ft"), ["got 'lp(probe_epochs=2),ft'; bench sweep takes several"]),
        ((*LP, "--arch", "net1d"), ["unknown backbone 'net1d'. Did you mean 'net1d_mini'?"]),
        ((*LP, "--method", "lp(epochs=2)"), ["has no hyper-parameter 'epochs'", "It has: probe_epochs"]),
        ((*LP, "--method", "lp(probe_epochs=2.5)"), ["probe_epochs takes int, got 2.5"]),
        ((*LP, "--method", "lp(probe_epochs=True)"), ["probe_epochs takes int, got True"]),
        ((*LP, "--method", "lp(probe_epochs"), ["expected name or name(key=value, ...)"]),
        ((*LP, "--fraction", "0"), ["--fraction must lie in (0, 1], got 0"]),
        ((*LP, "--fraction", "1.5"), ["--fraction must lie in (0, 1], got 1.5"]),
        ((*LP, "--fraction", "nan"), ["--fraction must lie in (0, 1]"]),
        ((*LP, "--seed", "-1"), ["--seed must not be negative"]),
        ((*LP, "--seed", "99999999999999999"), ["--seed must be at most 2^53, got 99999999999999999"]),
        ((*LP, "--init", ""), ["the value of --init is empty; give one, or leave it out"]),
        ((*LP, "--runs="), ["the value of --runs is empty"]),
        ((*LP, "--draw", "2"), ["--draw 2 has no effect"]),
        ((*LP, "--data", "DEMO", "--method", "lp(probe_epochs=0)"), ["epochs must be a whole number from 1, got 0"]),
        ((*LP, "--data", "DEMO", "--method", "lp(probe_lr=-1)"), ["learning rate of 'head' must be positive"]),
        (
            (*LP, "--data", "DEMO", "--arch", "vit1d_tiny(patch=200)"),
            ["patch takes one of 1, 2, 5, 10, 25, 50, 125, 250, got 200"],
        ),
        ((*LP, "--data", "DEMO", "--source-rate", "250"), ["not at 250 Hz; use --source-rate 100 or 500"]),
        ((*LP, "--data", "DEMO", "--init", "pretrained"), ["no published checkpoint"]),
        ((*LP, "--data", "DEMO", "--init", "nowhere.pt"), ["no file of weights at nowhere.pt"]),
        ((*LP, "--data", "DEMO", "--init", "DEMO/scp_statements.csv"), ["scp_statements.csv"]),
    ],
)
def test_a_users_mistake_is_one_line(
    words: tuple[str, ...], parts: list[str], run_bench: Bench, demo_set: Path, tmp_path: Path
) -> None:
    assert_one_line(run_bench("run", *(word.replace("DEMO", str(demo_set)) for word in words)), *parts)
    assert_nothing_left(tmp_path)


def test_a_missing_table_or_column_is_named(run_bench: Bench, demo_set: Path, tmp_path: Path) -> None:
    data = copy_of(demo_set, tmp_path / "data")
    table = data / "ptbxl_database.csv"
    table.write_text(table.read_text().replace("strat_fold", "fold", 1))
    assert_one_line(run_bench("run", *LP, "--data", data), "ptbxl_database.csv lacks column strat_fold")

    table.unlink()
    assert_one_line(run_bench("run", *LP, "--data", data), "ptbxl_database.csv is missing")
    assert not (tmp_path / "runs").exists()


def test_a_truncated_record_is_named_and_nothing_is_left(run_bench: Bench, demo_set: Path, tmp_path: Path) -> None:
    data = copy_of(demo_set, tmp_path / "data", signals="copy")
    damaged = sorted(data.rglob("*.dat"))[100]
    damaged.write_bytes(damaged.read_bytes()[:1000])

    assert_one_line(run_bench("run", *LP, "--data", data), damaged.name, "1,000 bytes")
    shutil.rmtree(data)
    assert_nothing_left(tmp_path)


def test_a_missing_rate_is_named_with_the_way_out(run_bench: Bench, demo_set: Path, tmp_path: Path) -> None:
    data = copy_of(demo_set, tmp_path / "data")

    said = run_bench("run", *LP[:2], "--arch", "ecgfounder", *LP[4:], "--init", "random", "--data", data)
    assert_one_line(said, "500 Hz", "--source-rate 100")
    shutil.rmtree(data)
    assert_nothing_left(tmp_path)


class Evil:
    """What would run when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch evil-was-here",)


def test_checkpoints_that_do_not_fit_or_would_run_code_are_refused(
    run_bench: Bench, demo_set: Path, tmp_path: Path
) -> None:
    model, _ = build_model(build_backbone(Reference("net1d_mini"), 0), 5, None, 0)
    folder = tmp_path / "weights"
    folder.mkdir()
    save_weights(model, folder / "whole.pt", about={})
    document = torch.load(folder / "whole.pt", weights_only=True)
    name = "backbone.first_conv.conv.weight"
    broken = {
        "missing.pt": {k: v for k, v in document["state_dict"].items() if k != name},
        "misshapen.pt": {**document["state_dict"], name: torch.zeros(1)},
        "surplus.pt": {**document["state_dict"], "backbone.more": torch.zeros(1)},
        "evil.pt": {**document["state_dict"], "backbone.evil": Evil()},
    }
    for file, state in broken.items():
        torch.save({"state_dict": state}, folder / file)

    for file, part in {
        "missing.pt": "lacks 1 of its keys: backbone.first_conv.conv.weight",
        "misshapen.pt": "has misshapen 1 of its keys: backbone.first_conv.conv.weight",
        "surplus.pt": "has unknown 1 of its keys: backbone.more",
        "evil.pt": "holds more than weights",
    }.items():
        assert_one_line(run_bench("run", *LP, "--data", demo_set, "--init", folder / file), file, part)
    assert not (tmp_path / "evil-was-here").exists()
    shutil.rmtree(folder)
    assert_nothing_left(tmp_path)


def test_runs_that_are_not_there_are_a_users_mistake(run_bench: Bench, demo_set: Path, tmp_path: Path) -> None:
    assert_one_line(run_bench("leaderboard"), "no runs at runs")
    assert_one_line(run_bench("predict", tmp_path, "x"), f"no finished run at {tmp_path}")
    assert_one_line(run_bench("data", "show", "x" * 300, "--data", demo_set), "x" * 300, "File name too long")
    (tmp_path / "runs").mkdir()
    assert_one_line(run_bench("leaderboard"), "no finished run with scores of fold 10 in runs")


def test_a_demo_folder_that_is_taken_is_left_alone(run_bench: Bench, demo_set: Path) -> None:
    before = sorted(demo_set.iterdir())

    assert_one_line(run_bench("data", "demo", demo_set, "--records", 100), str(demo_set))
    assert sorted(demo_set.iterdir()) == before


def test_list_speaks_plain_data_too(run_bench: Bench, demo_set: Path) -> None:
    found = json.loads(run_bench("list", "--json").out)
    assert {"ft", "lp", "lpft", "ft-sd", "lpft-sd", "scratch", "ft-official"} <= {m["name"] for m in found["methods"]}
    assert {"ecgfounder", "net1d_mini", "fcn_wang"} <= {arch["name"] for arch in found["archs"]}
    for kind in ("methods", "archs", "tasks"):
        assert all(entry["from"].startswith("ptbxl-bench ") for entry in found[kind])

    (tasks,) = json.loads(run_bench("list", "tasks", "--data", demo_set, "--json").out).values()
    counts = {task["name"]: task for task in tasks}
    assert {"all", "diag", "subdiag", "superdiag", "form", "rhythm"} <= set(counts)
    assert counts["superdiag"]["labels"] == 5
    for task in tasks:
        assert task["train"] + task["val"] + task["test"] == task["records"] <= 240


def test_list_shows_tables(run_bench: Bench, demo_set: Path) -> None:
    for words in (["methods"], ["archs"], ["tasks"], ["tasks", "--data", demo_set]):
        said = run_bench("list", *words)
        assert said.code == 0
        assert len(said.out.splitlines()) > 5


def test_list_describes_one(run_bench: Bench, demo_set: Path) -> None:
    said = run_bench("list", "methods", "ft")
    assert said.out.startswith("ft, from ptbxl-bench ") and "Full fine-tuning: train all parameters" in said.out
    lines = said.out.splitlines()
    assert "finetune_lr=0.0005: float; search LogUniform(low=5e-05, high=0.005)" in lines
    assert "finetune_min_lr=1e-05: float of at least 0" in lines
    assert "1,329,216" in run_bench("list", "archs", "net1d_mini").out
    assert "diagnostic superclasses" in run_bench("list", "tasks", "superdiag").out
    (described,) = [json.loads(run_bench("list", "tasks", "superdiag", "--data", demo_set, "--json").out)]
    assert (described["labels"], described["text"]) == (5, "diagnostic superclasses")
    assert "folder" in run_bench("list", "datasets", "ptb-xl").out
    assert_one_line(run_bench("list", "methods", "ftt"), "unknown method 'ftt'. Did you mean 'ft'?")


def test_the_version_says_where_the_package_is(run_bench: Bench) -> None:
    said = run_bench("--version")
    assert said.code == 0 and said.out == f"bench {bench.__version__} in {Path(bench.__file__).parent}\n"


def test_the_options_of_power_say_what_they_are(run_bench: Bench) -> None:
    run_bench.patch.setenv("COLUMNS", "100")
    assert "A task of those runs." in run_bench("power", "--help").out


@pytest.mark.slow
def test_from_runs_to_a_leaderboard(run_bench: Bench, demo_set: Path, tmp_path: Path) -> None:
    ran = run_bench("run", *QUICK, "--data", demo_set, "--json")
    assert ran.code == 0, ran.err
    declined = run_bench("run", *QUICK[:2], "--arch", "fcn_wang", "--method", "lpft-sd", *EXACT, "--data", demo_set)
    assert declined.code == 0
    assert "stochastic depth needs at least two residual blocks" in declined.out

    shown = run_bench("leaderboard", "--data", demo_set)
    assert shown.code == 0
    (board,) = json.loads(run_bench("leaderboard", "--data", demo_set, "--json").out)
    assert [(row["backbone"], row["method"]) for row in board["rows"]] == [("prevalence", "lp(probe_epochs=2)")]
    assert board["recomputed"] is True
    assert board["synthetic"] is True
    assert [entry["row"][:3:2] for entry in board["declined"]] == [["fcn_wang", "lpft-sd"]]
    assert json.loads(ran.out)["cell"]["command"] == board["rows"][0]["command"]
    text = next((tmp_path / "runs/leaderboards").glob("synthetic-*/superdiag.md")).read_text()
    assert "- lpft-sd on fcn_wang (random): stochastic depth needs" in text

    (result,) = (result for result in find_results(tmp_path / "runs") if result.incompatible is None)
    (record,) = list((demo_set / "records100").rglob("00001_lr.hea"))
    csv = run_bench("predict", result.folder, record).out.splitlines()
    assert csv[0] == "record,CD,HYP,MI,NORM,STTC"
    assert csv[1].startswith("00001_lr,")
    assert run_bench("predict", result.folder, record, "--out", "p.csv").out == ""
    assert (tmp_path / "p.csv").read_text().splitlines() == csv
    assert_one_line(run_bench("predict", result.folder, record, "--out", "no/p.csv"), "cannot write no/p.csv")
    assert_one_line(run_bench("predict", result.folder, "no-record"), "no-record")
    (result.folder / "weights.pt").unlink()
    assert_one_line(run_bench("predict", result.folder, record), "kept no weights")
    (result.folder / "result.json").write_text("{")
    rest = run_bench("leaderboard", "--data", demo_set)
    assert rest.code == 1 and "superdiag.md" in rest.out
    (line,) = rest.err.strip().splitlines()
    assert line.startswith(f"warning: left out: {result.folder.relative_to(tmp_path)}/result.json is damaged")
    assert "--overwrite" in line


def test_options_of_slurm_need_slurm(run_bench: Bench, demo_set: Path) -> None:
    words = ("sweep", *LP, "--data", demo_set, "--dry-run", "--gpus", 4, "--time", "2h")
    assert_one_line(run_bench(*words), "--time, --gpus: for a cluster only; add --launcher slurm")


@pytest.mark.slow
def test_two_ranks_give_the_result_of_one(run_bench: Bench, demo_set: Path, tmp_path: Path) -> None:
    words = ("run", *LP, "--data", demo_set, "--json", "--runs")
    alone = run_bench(*words, tmp_path / "on-1")
    run_bench.patch.setenv("BENCH_CACHE", str(tmp_path / "cache"))  # or the features would be those of the first
    together = in_a_process(*words, tmp_path / "on-2", "--nproc", 2, cwd=tmp_path)
    for num, said in ((1, alone), (2, together)):
        assert said.code == 0, said.err
        assert json.loads(said.out)["environment"]["ranks"] == num
    one, two = (next(find_results(tmp_path / f"on-{num}")) for num in (1, 2))

    assert one.digest == two.digest
    for fold in (9, 10):
        assert one.predictions[fold].ecg_id.tolist() == two.predictions[fold].ecg_id.tolist()
        np.testing.assert_allclose(one.predictions[fold].logits, two.predictions[fold].logits, atol=1e-5)


@pytest.mark.slow
def test_a_users_mistake_is_one_line_on_two_ranks(tmp_path: Path) -> None:
    assert_one_line(in_a_process("run", *LP, "--nproc", 2, "--data", "nowhere", cwd=tmp_path), "no dataset at nowhere")
    assert_nothing_left(tmp_path)


def test_a_path_that_cannot_be_written_is_one_line(run_bench: Bench, demo_set: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert run_bench("run", *LP, "--data", demo_set).code == 0
    assert_one_line(run_bench("leaderboard", "--data", demo_set, "--out", tmp_path / "file"), f"{tmp_path / 'file'}")


def test_a_status_line_is_one_line_whatever_its_files_hold(run_bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    failed = "reason: a\x1b[2J\u202eb\ncommand: bench run\nstage: test\nat: now\n\n"
    (tmp_path / "runs/x\nfailed: forged.failed").write_text("")
    (tmp_path / "runs/y.failed").write_text(failed)

    said = run_bench("status")

    assert said.code == 0
    assert "failed: bench run: a\\x1b[2J\\u202eb\n" in said.out
    assert "\nfailed: forged" not in said.out


def test_the_command_of_an_unfinished_run_can_be_pasted(run_bench: Bench, tmp_path: Path) -> None:
    begins = {"event": "begins", "command": "bench run --task form", "data": "mine-1a2b3c4d"}
    for number, (data, stage) in enumerate(((tmp_path / "my set", ""), (tmp_path / "data/ptb-xl", "-val"))):
        folder = tmp_path / f"runs/demo/form/a-ft-seed0-0000000{number}{stage}.unfinished"
        folder.mkdir(parents=True)
        (folder / "log.jsonl").write_text(json.dumps({**begins, "folder": str(data)}))

    assert [line for line in run_bench("status", "--runs", "runs/demo").out.splitlines() if "bench run" in line] == [
        'unfinished: bench run --task form --data "my set" --runs runs/demo',
        "unfinished: bench run --task form --stage val --runs runs/demo",
    ]
    assert "bench run --task form --data" in run_bench("status").out  # the usual folder of runs is not named


@pytest.mark.parametrize("target", ["afile/below", "/proc/below"])
def test_a_folder_that_cannot_be_made_is_one_line(
    run_bench: Bench, demo_set: Path, tmp_path: Path, target: str
) -> None:
    (tmp_path / "afile").write_text("")
    words = ("--data", demo_set, "--out")

    assert_one_line(run_bench("data", "show", 1, *words, f"{target}.svg"), f"cannot write {target}.svg")
    assert_one_line(run_bench("new", "method", "my_method", target), target.partition("/below")[0])
    with pytest.raises(BenchError, match=f"cannot write to {target}: .*; --out names another folder"):
        write_leaderboards([], Path(target), Truth(Path("no dataset")))
    assert_one_line(run_bench("data", "manifest", "--task", "form", *words, f"{target}.csv"), f"{target}.csv")


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="needs root, to mount a small disk")
def test_a_full_or_read_only_disk_is_one_line(run_bench: Bench, demo_set: Path, tmp_path: Path) -> None:
    for options in ("size=16k", "size=16k,ro"):
        disk = tmp_path / options
        disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", disk]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("may not mount a disk")
        try:
            assert_one_line(run_bench("data", "show", 1, "--data", demo_set, "--out", disk / "x.png"), "x.png")
            said = run_bench("data", "manifest", "--task", "all", "--data", demo_set, "--out", disk / "x.json")
            if options.endswith("ro"):
                assert_one_line(said, "x.json: Read-only file system")
                assert_one_line(run_bench("new", "method", "my_method", disk), "Read-only file system")
                with pytest.raises(BenchError, match="Read-only file system"):
                    write_leaderboards([], disk / "boards", Truth(Path("no dataset")))
            assert not list(disk.glob(".*.part"))
        finally:
            subprocess.run(["umount", disk], check=True)
