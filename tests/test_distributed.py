"""The number of ranks does not change what is trained: real processes under torchrun, gloo.

Run as a script under torchrun this file trains every case and writes what came of it; the tests compare that with
the same cases in one process.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from baselines.net1d import Net1D
from bench.data.signals import SignalSpec
from bench.errors import BenchError
from bench.plugin import Backbone
from bench.results.result import Result, find_results
from bench.training.audit import check_same_on_ranks
from bench.training.batch_norm import share_batch_norm
from bench.training.batches import FeatureSource
from bench.training.checkpoint import Checkpoints
from bench.training.distributed import World, choose_device, join, unused_accelerator
from bench.training.features import predict
from bench.training.loop import check_same_cell, check_same_start, train
from bench.training.method import Gradients, Method
from bench.training.model import Classifier
from bench.training.phase import Phase
from bench.training.precision import Precision, dtype
from methods.full_finetune import FullFinetune, FullFinetuneStochasticDepth
from methods.linear_probe import LinearProbe
from methods.lpft import LPFT, LPFTStochasticDepth
from methods.scratch import Scratch

EPOCHS, BATCH, NUM_VAL = 15, 15, 31
NUM_TRAIN: dict[Precision, int] = {"float64": 92, "float32": 98}
"""7 steps an epoch, 105 a phase, ranks' shares uneven; of the last batch, 2 records, a third rank has none.

Float32 ends on 8 records: behind a batch norm over 2 the true gradient is nil, and Adam makes steps of its rounding
(1.2e-3 after 21 of them on 3 ranks, in place of 1.3e-5).
"""
TORCHRUN = (sys.executable, "-m", "torch.distributed.run")
ALONE = World(0, 1, torch.device("cpu"))


def net1d() -> Backbone:
    return Net1D(SignalSpec(100, "none"), stem=16, widths=(16, 32), depths=(1, 1), kernel_size=8)


class BatchNorm(Backbone):
    """Batch norm over records and time, over records alone, and dropout, as the baselines have them."""

    signal_spec = SignalSpec(100, "none")
    feature_dim = 32

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv1d(12, 16, 8, bias=False), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.1))
        self.tail = nn.Sequential(
            *(nn.BatchNorm1d(32), nn.Dropout(0.25), nn.Linear(32, 32), nn.ReLU(), nn.BatchNorm1d(32), nn.Dropout(0.5))
        )

    def forward(self, signals: Tensor) -> Tensor:
        x = self.layers(signals)
        return self.tail(torch.cat([x.amax(-1), x.mean(-1)], dim=1))  # type: ignore[no-any-return]


@dataclass
class Small(Method):
    """A shipped recipe with a smaller batch."""

    recipe: Method

    def phases(self, layer_groups: Sequence[str]) -> list[Phase]:
        return [replace(phase, batch_size=BATCH) for phase in self.recipe.phases(layer_groups)]

    def optimizer(self, groups: list[dict[str, Any]], phase: Phase, gradients: Gradients) -> torch.optim.Optimizer:
        return self.recipe.optimizer(groups, phase, gradients)


CASES: dict[str, tuple[Callable[[], Backbone], Method, Precision]] = {
    "lp net1d": (net1d, LinearProbe(probe_epochs=EPOCHS), "float64"),
    "ft net1d": (net1d, FullFinetune(finetune_epochs=EPOCHS), "float64"),
    "lpft net1d": (net1d, LPFT(probe_epochs=EPOCHS, finetune_epochs=EPOCHS), "float64"),
    "lpft-sd net1d": (net1d, LPFTStochasticDepth(probe_epochs=EPOCHS, finetune_epochs=EPOCHS), "float64"),
    "lp batch norm": (BatchNorm, LinearProbe(probe_epochs=EPOCHS), "float64"),
    "ft batch norm": (BatchNorm, FullFinetune(finetune_epochs=EPOCHS), "float64"),
    "lpft batch norm": (BatchNorm, LPFT(probe_epochs=EPOCHS, finetune_epochs=EPOCHS), "float64"),
    "scratch batch norm": (BatchNorm, Scratch(epochs=EPOCHS, gradient_clip_norm=0.25), "float64"),
    "float32 net1d": (net1d, FullFinetuneStochasticDepth(finetune_epochs=3), "float32"),
    "float32 batch norm": (BatchNorm, FullFinetune(finetune_epochs=3), "float32"),
}
FEW = ("lpft-sd net1d", "scratch batch norm")
LEAST = {"lp": 5e-2, "ft": 5e-3, "lpft": 5e-3, "lpft-sd": 5e-3, "scratch": 0.1, "float32": 5e-3}
"""By how much some parameter must have moved: ten times the first learning rate."""


class Watch:
    """Counts steps, and stops the run like a kill after the one it is told."""

    def __init__(self, stop: int | None = None) -> None:
        self.steps, self.stop = 0, stop

    def phase_begins(self, name: str, num_epochs: int, steps_per_epoch: int, steps_done: int) -> None: ...
    def predicts(self, what: str, done: int, total: int) -> None: ...
    def epoch_ends(self, facts: dict[str, Any]) -> None: ...
    def phase_ends(self) -> None: ...
    def note(self, text: str) -> None: ...
    def step_ends(self) -> None:
        self.steps += 1
        if self.steps == self.stop:
            raise KeyboardInterrupt


def signals(num: int, kind: torch.dtype) -> FeatureSource:
    torch.manual_seed(num)
    labels = (torch.rand(num, 3) < 0.4).to(kind)
    noise = torch.randn(num, 1, 12, 64, dtype=torch.float64).to(kind)
    noise[:, 0, :3] += 0.5 * labels[:, :, None]
    return FeatureSource(noise, labels)


def train_case(name: str, world: World, checkpoints: Checkpoints | None = None, stop: int | None = None) -> Any:
    backbone, recipe, precision = CASES[name]
    torch.manual_seed(1)
    model = Classifier(backbone(), 3).to(dtype(precision))
    start = {key: value.clone() for key, value in model.state_dict().items()}
    share_batch_norm(model, world)
    watch = Watch(stop)
    reports, _ = train(
        model,
        Small(recipe),
        Small(recipe).phases(()),
        signals(NUM_TRAIN[precision], dtype(precision)),
        signals(NUM_VAL, dtype(precision)),
        seed=0,
        world=world,
        precision=precision,
        watcher=watch,
        checkpoints=checkpoints or Checkpoints(Path("/nowhere"), writes=False, note=print),
    )
    return {
        "start": start,
        "end": model.state_dict(),
        "loss": torch.tensor([loss for report in reports for loss in report.train_loss], dtype=torch.float64),
        "auroc": torch.tensor([score for report in reports for score in report.val_macro_auroc], dtype=torch.float64),
        "steps": watch.steps,
    }


def resume_case(name: str, world: World, folder: Path) -> dict[str, Any]:
    """The same, killed in the middle of an epoch and gone on with."""
    if world.is_main:
        time.sleep(0.5)  # the others are there first, and must wait for the folder
        folder.mkdir(exist_ok=True)
    for stop in (10, 5, None):
        checkpoints = Checkpoints(folder, writes=world.is_main, note=print, minutes=0)
        with contextlib.suppress(KeyboardInterrupt):
            outcome: dict[str, Any] = train_case(name, world, checkpoints, stop)
        world.wait()
    return outcome


class Count(nn.Module):
    """Passes records on and remembers which it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[float] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen += x[:, 0].tolist()
        return x


def score_numbers(num: int, world: World) -> tuple[Tensor, int]:
    """Scores of `num` records whose signal is their number, and how many records all ranks ran."""
    count = Count()
    numbers = torch.arange(num, dtype=torch.float32)[:, None, None]
    scores = predict(count, FeatureSource(numbers, numbers[:, 0]), "max", world, "float32")
    return scores[:, 0], int(world.sum(torch.tensor(len(count.seen))))


def run_batch_norm(shape: tuple[int, ...], world: World) -> dict[str, Tensor]:
    """Two training steps of a batch norm over a batch that ranks share; all of the outcome."""
    torch.manual_seed(5)
    model = nn.Sequential(nn.BatchNorm1d(shape[1])).double()
    nn.init.uniform_(model[0].weight)
    share_batch_norm(model, world)
    found: dict[str, Tensor] = {}
    for step in range(2):
        batch, weight = torch.randn(2, *shape, dtype=torch.float64) * 3 + 1
        share = world.share(len(batch))
        x = batch[share].clone().requires_grad_()
        y = model(x)
        (y * weight[share]).sum().backward()
        assert x.grad is not None
        found |= {f"y{step}": world.gather(y.detach(), shape[0]), f"dx{step}": world.gather(x.grad, shape[0])}
    norm = model[0]
    found |= {"dweight": world.sum(norm.weight.grad), "dbias": world.sum(norm.bias.grad)}
    return found | {key: buffer.clone() for key, buffer in norm.named_buffers()}


NUMBERS, SHAPES = (1, 2, 3, 10, 128, 301), ((2, 4, 5), (3, 4), (7, 4, 9))


def other_starts(world: World) -> str:
    """What is said of a frozen part that a rank has prepared otherwise; nothing of equal ones."""
    torch.manual_seed(1)
    model = Classifier(BatchNorm(), 3)
    check_same_on_ranks(model, world)
    with torch.no_grad():
        model.backbone.get_parameter("tail.2.weight")[0, 0] *= 1 + 1e-6 * world.rank
    try:
        check_same_on_ranks(model, world)
    except BenchError as error:
        return str(error)
    return ""


def everything(world: World, names: Sequence[str], folder: Path) -> dict[str, Any]:
    """What a number of ranks makes of these cases."""
    try:
        check_same_start({"reports": [{"train_loss": [0.5] * world.rank}], "step": 3}, folder, world)
        disagreement = ""
    except BenchError as error:
        disagreement = str(error)
    return {
        "other starts": other_starts(world),
        **{name: train_case(name, world) for name in names},
        "resumed": {name: resume_case(name, world, folder / name) for name in names if name.startswith("float32")},
        "scores": {num: score_numbers(num, world) for num in NUMBERS},
        "batch norm": {shape: run_batch_norm(shape, world) for shape in SHAPES},
        "disagreement": disagreement,
    }


def torchrun(nodes: Sequence[int], out: Path, *names: str) -> dict[str, Any]:
    """These cases by torchrun, an agent a node with so many ranks each; what came of it, and how it ended."""
    port = 0
    if len(nodes) > 1:  # a port that both know beforehand
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
    meet = [f"--nnodes={len(nodes)}", "--rdzv-backend=c10d", f"--rdzv-endpoint=localhost:{port}", "--rdzv-id=test"]
    cores = sorted(os.sched_getaffinity(0))
    agents = []
    try:
        for number, num_ranks in enumerate(nodes):
            if len(nodes) > 1:  # a node has its own cores
                os.sched_setaffinity(0, {cores[number % len(cores)]})
            command = [*TORCHRUN, *meet, f"--nproc-per-node={num_ranks}", __file__, str(out), *names]
            agents.append(
                subprocess.Popen(
                    command,
                    env={**os.environ, "OMP_NUM_THREADS": "1"},
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
        os.sched_setaffinity(0, cores)
        said = "".join(agent.communicate(timeout=300)[1] for agent in agents)
    finally:
        os.sched_setaffinity(0, cores)
        for agent in agents:
            agent.kill()
    ended = time.time()
    assert out.is_file(), said[-3000:]
    found: dict[str, Any] = torch.load(out, weights_only=True)
    return found | {
        "stderr": said,
        "codes": {agent.returncode for agent in agents},
        "last words": ended - out.stat().st_mtime,
    }


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield everything(ALONE, list(CASES), tmp_path_factory.mktemp("alone"))
    torch.set_num_threads(num_threads)


@pytest.fixture(scope="module", params=[2, 3])
def together(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return torchrun([request.param], tmp_path_factory.mktemp("ranks") / "all.pt", *CASES)


def gap(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    assert ours.keys() == theirs.keys()
    return max(float((ours[key].double() - theirs[key].double()).abs().max()) for key in ours)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_ranks_end_with_the_same_weights(name: str, alone: dict[str, Any], together: dict[str, Any]) -> None:
    assert_same_weights(name, alone[name], together[name])


def assert_same_weights(name: str, one: dict[str, Any], many: dict[str, Any]) -> None:
    tolerance, least_steps = (1e-4, 20) if name.startswith("float32") else (1e-8, 100)
    learned = {key: value for key, value in one["end"].items() if key.endswith((".weight", ".bias"))}

    moved = gap(learned, {key: one["start"][key] for key in learned})
    apart = gap(one["end"], many["end"])

    assert one["steps"] == many["steps"] >= least_steps
    assert moved > LEAST[name.split()[0]], "a test of ranks needs weights that move"
    assert apart <= tolerance
    assert (one["loss"] - many["loss"]).abs().max() <= tolerance
    if tolerance == 1e-8:
        assert torch.equal(one["auroc"], many["auroc"])


@pytest.mark.slow
@pytest.mark.parametrize("nodes", [(4,), (1, 1), (1, 2), (2, 2)], ids=str)
def test_more_ranks_on_one_node_and_on_two(nodes: tuple[int, ...], alone: dict[str, Any], tmp_path: Path) -> None:
    found = torchrun(nodes, tmp_path / "all.pt", *FEW)

    for name in FEW:
        assert_same_weights(name, alone[name], found[name])
    for num in NUMBERS:
        assert_scored_once(num, *found["scores"][num], num_ranks=sum(nodes))
    assert_all_ended(found)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("float32")])
def test_a_run_killed_within_an_epoch_goes_on_to_the_same_bits(name: str, together: dict[str, Any]) -> None:
    resumed = together["resumed"][name]

    assert resumed["steps"] == together[name]["steps"] - 15, "steps that were saved are not run again"
    assert gap(resumed["end"], together[name]["end"]) == 0
    assert torch.equal(resumed["loss"], together[name]["loss"])


@pytest.mark.slow
@pytest.mark.parametrize("num", NUMBERS)
def test_every_record_is_scored_once(num: int, alone: dict[str, Any], together: dict[str, Any]) -> None:
    for scores, num_run in (alone["scores"][num], together["scores"][num]):
        assert_scored_once(num, scores, num_run, num_ranks=3)


def assert_scored_once(num: int, scores: Tensor, num_run: int, num_ranks: int) -> None:
    assert torch.equal(scores, torch.arange(num, dtype=torch.float32))
    assert num_run == num or num < num_ranks, "a rank without a record runs one for the shape and drops it"


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_batch_norm_is_that_of_the_whole_batch(
    shape: tuple[int, ...], alone: dict[str, Any], together: dict[str, Any]
) -> None:
    assert gap(alone["batch norm"][shape], together["batch norm"][shape]) <= 1e-12


@pytest.mark.slow
def test_ranks_that_found_different_checkpoints_say_so(alone: dict[str, Any], together: dict[str, Any]) -> None:
    assert alone["disagreement"] == ""
    assert "see different states of" in together["disagreement"]
    assert ": 0 epochs and 3 steps, 1 epochs and 3 steps" in together["disagreement"]


@pytest.mark.slow
def test_ranks_that_prepare_other_weights_say_so(alone: dict[str, Any], together: dict[str, Any]) -> None:
    assert alone["other starts"] == ""
    assert together["other starts"].startswith("the ranks begin with different values of backbone.tail.2.weight: ")


@pytest.mark.slow
def test_a_failing_main_rank_ends_the_others(together: dict[str, Any]) -> None:
    assert_all_ended(together)
    assert "Warning" not in together["stderr"]


def assert_all_ended(found: dict[str, Any]) -> None:
    assert found["codes"] == {1} and "no space left, said by rank 0" in found["stderr"]
    assert found["last words"] < 60, "seconds from the failure to the end of all ranks"


@pytest.mark.slow
def test_a_killed_rank_brings_all_down_and_back(demo_set: Path, tmp_path: Path) -> None:
    command = [*TORCHRUN, "--standalone", "--nproc-per-node=2", "--max-restarts=1", "-m", "bench", "run"]
    command += ["--task=superdiag", "--arch=net1d_mini", "--method=ft(finetune_epochs=8)", "--precision=float32"]
    command += [f"--data={demo_set}", "--checkpoint-minutes=0", "--runs"]
    ends: list[Result] = []
    for kill in (False, True):
        runs = tmp_path / str(kill)
        # torch 2.13 keeps one store over restarts, and gloo may find the address of the killed rank in it
        fresh = {**os.environ, "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
        pipes: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
        with subprocess.Popen([*command, runs], env=fresh, text=True, **pipes) as agent:
            if kill:
                wait_for(lambda runs=runs: any(runs.rglob("checkpoint-0003.pt")))
                os.kill(rank_process(agent.pid, 1), signal.SIGKILL)
            _, said = agent.communicate(timeout=240)
        assert agent.returncode == 0, said[-3000:]
        ends += find_results(runs)

    undisturbed, restarted = ends
    assert restarted.document["weights_sha256"] == undisturbed.document["weights_sha256"]
    log = [json.loads(line) for line in (restarted.folder / "log.jsonl").read_text().splitlines()]
    assert any(str(line.get("text")).startswith("resumed in phase finetune") for line in log)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
def test_the_group_ends_with_the_block(tmp_path: Path) -> None:
    """A group that lives until Python ends may abort the process there, and a run that is done has failed."""
    script = tmp_path / "train.py"
    script.write_text(
        textwrap.dedent("""
        from pathlib import Path
        import torch
        from bench.training.distributed import join

        def num_threads():
            return len(list(Path("/proc/self/task").iterdir()))

        with join() as world:
            model = torch.nn.Linear(3, 2)
            optimizer = torch.optim.AdamW(model.parameters())
            model(torch.ones(4, 3)).sum().backward()
            world.sum_gradients(list(model.parameters()))
            optimizer.step()
            during = num_threads()
        print(f"{during > 1} {num_threads()}")
        """)
    )
    done = subprocess.run(
        [*TORCHRUN, "--standalone", "--nproc-per-node=2", script],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.replace("\n", "") == "True 1" * 2, done.stderr[-3000:]


@pytest.mark.slow
def test_ranks_of_machines_with_other_precisions_end_at_once(demo_set: Path, tmp_path: Path) -> None:
    script = tmp_path / "other.py"
    script.write_text(
        textwrap.dedent(f"""
        import os
        import bench, bench.execute

        bench.execute.resolve_precision = lambda asked, device: ["float32", "bf16"][int(os.environ["RANK"])]
        try:
            bench.run("lp", "superdiag", "prevalence", data={str(demo_set)!r}, runs={str(tmp_path / "runs")!r})
        except bench.BenchError as error:
            print(error)
        """)
    )
    done = subprocess.run(
        [*TORCHRUN, "--standalone", "--nproc-per-node=2", script], capture_output=True, text=True, timeout=120
    )
    expected = "--precision auto is float32, bf16 on the ranks, whose machines differ; name it with --precision"
    assert done.stdout.replace("\n", "") == expected * 2, done.stderr[-3000:]
    assert not (tmp_path / "runs").exists()


@dataclass(frozen=True)
class Gathered(World):
    """The first rank of several, of which the others have sent these rows."""

    others: tuple[tuple[int, ...], ...] = ()

    def gather(self, local: Tensor, num: int) -> Tensor:
        return torch.cat([local, torch.tensor(self.others)])


def test_ranks_with_other_digests_say_so() -> None:
    cpu = torch.device("cpu")
    check_same_cell("float32", "0000abcd" + 56 * "0", Gathered(0, 2, cpu, others=((1, 0xABCD),)))
    with pytest.raises(BenchError, match="the ranks have set up different cells: 0000abcd, 0000abce; all machines of"):
        check_same_cell("float32", "0000abcd" + 56 * "0", Gathered(0, 2, cpu, others=((1, 0xABCE),)))
    with pytest.raises(BenchError, match="--precision auto is bf16, float32 on the ranks"):
        check_same_cell("bf16", "0000abcd" + 56 * "0", Gathered(0, 2, cpu, others=((1, 0xABCD),)))


@pytest.mark.slow
def test_two_ranks_preprocess_the_same_windows(demo_set: Path, tmp_path: Path) -> None:
    """Each random crop is standardised for itself; on two ranks as on one."""
    plugin = Path(__file__).parent / "plugins/windowed_backbone.py"
    shown: list[Result] = []
    for num_ranks in (1, 2):
        launcher = [*TORCHRUN, "--standalone", f"--nproc-per-node={num_ranks}"] if num_ranks > 1 else [sys.executable]
        command = [*launcher, "-m", "bench", "run", "--task=superdiag", "--arch=windowed", "--precision=float64"]
        command += ["--method=ft(finetune_epochs=2)", "--stage=val", f"--data={demo_set}"]
        own = {**os.environ, "OMP_NUM_THREADS": "1", "BENCH_PLUGINS": str(plugin)}
        command += [f"--runs={tmp_path / str(num_ranks)}"]
        done = subprocess.run(command, env=own, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        shown += find_results(tmp_path / str(num_ranks))

    one, two = (result.predictions[9].logits for result in shown)
    assert shown[0].document["signals"]["per_window"] is True
    assert one.std(axis=0).min() > 1e-3
    assert abs(one - two).max() < 1e-6


def wait_for(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def rank_process(agent: int, rank: int) -> int:
    """The process of a rank, among the children of its agent."""
    for child in Path(f"/proc/{agent}/task/{agent}/children").read_text().split():
        if f"RANK={rank}" in Path(f"/proc/{child}/environ").read_text().split("\0"):
            return int(child)
    raise AssertionError(f"rank {rank} is not running")


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("num", [0, 1, 2, 6, 7, 20])
def test_shares_are_each_thing_once(num: int, size: int) -> None:
    shares = [World(rank, size, torch.device("cpu")).share(num) for rank in range(size)]

    assert [thing for share in shares for thing in range(num)[share]] == list(range(num))
    lengths = [share.stop - share.start for share in shares]
    assert max(lengths) - min(lengths) <= 1


def test_one_process_joins_no_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with join() as world:
        assert (world.rank, world.size, world.is_main) == (0, 1, True)
        assert not torch.distributed.is_initialized()
        parameter = nn.Parameter(torch.ones(2))
        world.sum_gradients([parameter])
        assert parameter.grad is None
        world.wait()


def test_a_sum_leaves_what_is_summed_alone() -> None:
    value = torch.ones(2)

    ALONE.sum(value).add_(1)

    assert value.tolist() == [1, 1]


def test_ranks_on_gpus_are_bound_deterministic_and_patient(monkeypatch: pytest.MonkeyPatch) -> None:
    done: dict[str, Any] = {}
    for name, value in (("WORLD_SIZE", "2"), ("LOCAL_RANK", "1"), ("LOCAL_WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    for flag in ("deterministic", "allow_tf32"):
        monkeypatch.setattr(torch.backends.cudnn, flag, flag == "allow_tf32")
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    monkeypatch.setattr(torch, "use_deterministic_algorithms", lambda mode, warn_only: done.update(mode=mode))
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda kind, **more: done.update(more, kind=kind))
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    destroyed = list[str]()
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: destroyed.append("group"))

    with join() as world:
        assert world.device == torch.device("cuda", 1)
        assert not destroyed

    assert destroyed == ["group"]
    with pytest.raises(BenchError), join():
        raise BenchError
    assert destroyed == ["group"], "NCCL would wait for ranks that wait for this one"
    assert done["kind"] == "nccl" and done["device_id"] == world.device and done["mode"] is True
    assert done["timeout"].total_seconds() > 3600
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert torch.backends.cudnn.deterministic and not torch.backends.cudnn.allow_tf32
    assert not torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    assert torch.get_float32_matmul_precision() == "highest"


def test_more_processes_than_gpus_are_a_users_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")

    with pytest.raises(BenchError, match="2 processes on this machine, but 1 GPUs"), join():
        pass


if __name__ == "__main__":
    with join() as the_world:
        outcome = everything(the_world, sys.argv[2:], Path(sys.argv[1]).parent)
        if the_world.is_main:
            torch.save(outcome, sys.argv[1])
            raise BenchError("no space left, said by rank 0")
        the_world.wait()


@pytest.mark.skipif(sys.platform != "linux" or platform.libc_ver()[0] != "glibc", reason="glibc's allocator")
def test_memory_that_a_step_freed_serves_the_next() -> None:
    script = """
import resource, torch
from bench.training.distributed import join

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**25)  # 128 MiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

with join():
    print(*(faults() for _ in range(12)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    first, *_, last = map(int, done.stdout.split())
    assert last < first / 100


def test_the_device_is_chosen_in_one_module() -> None:
    package = Path(__file__).parent.parent / "bench"
    asking = [file for file in package.rglob("*.py") if "cuda.is_available" in file.read_text(encoding="utf-8")]
    assert asking == [package / "training" / "distributed.py"]


def test_a_process_has_a_gpu_of_its_own_or_the_cpu() -> None:
    assert choose_device(0, 2, 0) == torch.device("cpu")
    assert [choose_device(local, 2, 2) for local in range(2)] == [torch.device("cuda", 0), torch.device("cuda", 1)]
    assert choose_device(1, 1, 1) == torch.device("cuda", 0), "each process may be shown its own GPU alone"
    with pytest.raises(BenchError, match="3 processes on this machine, but 2 GPUs; each process needs its own"):
        choose_device(0, 3, 2)


@pytest.mark.parametrize("kind", ["mps", "xpu"])
def test_an_accelerator_that_is_not_supported_is_named(kind: str) -> None:
    assert f"accelerator ({kind}) is not supported; running on the CPU" in unused_accelerator(kind)


@pytest.mark.parametrize("kind", [None, "cpu", "cuda"])
def test_of_others_nothing_is_said(kind: str | None) -> None:
    assert unused_accelerator(kind) == ""
