"""The machine at hand: its device, how much work it is given, synthetic records in bulk, and clocks."""

from __future__ import annotations

import contextlib
import os
import platform
import statistics
import sys
import time
import tomllib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
import torch

CHECKOUT = Path(__file__).resolve().parents[3]


def offer_plugins(folder: Path) -> None:
    """Let the checkout's own plugins be known without an installation.

    Where the distribution is not installed, `folder` gets what an editable install would leave, from pyproject.toml:
    name and version, entry points, and the checkout's address (PEP 610). Child processes inherit the path.
    """
    if not any(point.group == "bench.plugins" for point in entry_points(group="bench.plugins")):
        import bench

        project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
        about = folder / f"{project['name'].replace('-', '_')}-{bench.__version__}.dist-info"
        about.mkdir(parents=True, exist_ok=True)
        version = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {bench.__version__}\n"
        (about / "METADATA").write_text(version)
        points = project["entry-points"]["bench.plugins"]
        lines = "\n".join(f"{name} = {package}" for name, package in points.items())
        (about / "entry_points.txt").write_text(f"[bench.plugins]\n{lines}\n")
        address = f'{{"url": "{CHECKOUT.as_uri()}", "dir_info": {{"editable": true}}}}'
        (about / "direct_url.json").write_text(address)
        sys.path.insert(0, str(folder))
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)


@dataclass(frozen=True)
class Size:
    """How much work the parts do: all of it on a card, the same steps on little data on a CPU."""

    arch: str
    records: int
    """Of the data set of part 4, folds 1 to 10."""
    checked: int
    """Records of the checks of part 1, three batches an epoch."""
    few: int
    """Records of the checks of parts 2 and 6."""
    batch: int
    speed: tuple[tuple[str, int, int], ...]
    """Part 3: backbone, samples, records a step."""
    epochs: int
    """Of the probe of part 4."""
    finetune_epochs: int
    side: int
    """Of the matrices whose product tells the card's own rate."""
    repeats: int


CARD = Size(
    arch="ecgfounder",
    records=21_799,
    checked=510,
    few=512,
    batch=256,
    speed=(("ecgfounder", 5000, 256), ("vit1d_small", 250, 1024), ("xresnet1d101", 250, 1024)),
    epochs=30,
    finetune_epochs=30,
    side=8192,
    repeats=10,
)
CPU = Size(
    arch="net1d_mini",
    records=120,
    checked=12,
    few=32,
    batch=8,
    speed=(("net1d_mini", 250, 4), ("vit1d_tiny", 250, 4), ("xresnet1d18", 250, 4)),
    epochs=30,
    finetune_epochs=2,
    side=256,
    repeats=2,
)


def size(device: torch.device) -> Size:
    return CARD if device.type == "cuda" else CPU


def facts(device: torch.device) -> dict[str, Any]:
    """What ran the parts."""
    on_card = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if on_card else platform.processor() or platform.machine()
    also = {}
    if on_card:
        properties = torch.cuda.get_device_properties(device)
        also = {
            "CUDA": torch.version.cuda,
            "cuDNN": torch.backends.cudnn.version(),
            "multiprocessors": properties.multi_processor_count,
            "memory in GiB": round(properties.total_memory / 2**30),
            "cards": torch.cuda.device_count(),
        }
    return {"device": name, "torch": torch.__version__, "Python": platform.python_version(), **also}


def synthetic(num: int, length: int, labels: int = 5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Signals int16 [record, lead, time], their scale [record] and labels [record, label], which show in the signals.

    Made in bulk: 256 records of noise, over which each label lays a wave of its own.
    """
    random = np.random.default_rng(0)
    noise = random.normal(0, 2000, (256, 12, length)).astype(np.float32)
    truth = random.random((num, labels)) < 0.3
    waves = np.sin(np.arange(length) * np.arange(5, 5 + labels)[:, None] / 40)[:, None, :] * random.normal(
        0, 1500, (labels, 12, 1)
    )
    waves = waves.astype(np.float32).reshape(labels, -1)
    values = np.empty((num, 12, length), np.int16)
    for start in range(0, num, 256):
        part = slice(start, min(start + 256, num))
        laid = (truth[part].astype(np.float32) @ waves).reshape(-1, 12, length)
        laid += np.roll(noise, start // 256, axis=0)[: len(laid)]
        values[part] = np.clip(laid, -32767, 32767)
    return values, np.full(num, 2e-4, np.float32), truth


def source(
    device: torch.device,
    num: int,
    spec: Any,
    length: int,
    data: Any = None,
    rows: Any = None,
    dtype: torch.dtype = torch.float32,
) -> Any:
    """A SignalSource of synthetic records, held where a run would hold them."""
    from bench.data.prepared import PreparedSignals, Scaling
    from bench.training.batches import DeviceSource, SignalSource

    values, scale, truth = data or synthetic(num, length)
    rows = np.arange(len(values)) if rows is None else rows
    signals = PreparedSignals(spec, spec.rate, Scaling(), {}, np.arange(len(values)), values, scale)
    labels = torch.from_numpy(truth[rows]).to(dtype)
    if device.type == "cuda":
        return DeviceSource(signals, rows, labels, dtype, device)
    return SignalSource(signals, rows, labels, dtype)


def model(arch: str, device: torch.device, labels: int = 5) -> Any:
    """A classifier of a registered backbone, always with the same weights."""
    from bench.registry.reference import Reference
    from bench.registry.registry import make
    from bench.training.model import Classifier

    torch.manual_seed(0)
    return Classifier(make("backbone", Reference(arch)), labels).to(device)


class Quiet:
    """Watches training; `after_step` may be set to anything."""

    after_step: Callable[[], None] = staticmethod(lambda: None)

    def phase_begins(self, *facts: object) -> None: ...
    def step_ends(self) -> None:
        self.after_step()

    def predicts(self, *facts: object) -> None: ...
    def epoch_ends(self, facts: Any) -> None: ...
    def phase_ends(self) -> None: ...
    def note(self, text: str) -> None: ...


def shorter(method: Any, epochs: int, batch: int) -> Any:
    """The method with `epochs` epochs and batches of `batch` records in each phase."""
    kind = type(method)

    def phases(self: Any, layer_groups: Any) -> list[Any]:
        return [replace(phase, epochs=epochs, batch_size=batch) for phase in method.phases(layer_groups)]

    return type(kind.__name__, (kind,), {"phases": phases, "__module__": kind.__module__})()


def train(net: Any, method: Any, records: Any, val: Any, device: torch.device, **more: Any) -> Any:
    """Train as a run does; reports of the phases. `folder`, where checkpoints go, `precision`, `watcher`, `world`."""
    from bench.training.checkpoint import Checkpoints
    from bench.training.distributed import World
    from bench.training.loop import train as train_cell
    from bench.training.method import declared_phases
    from bench.training.model import layer_groups

    folder = more.get("folder")
    files = Checkpoints(folder or Path(), bool(folder), lambda text: None, minutes=more.get("minutes", 1e9))
    reports, _ = train_cell(
        net,
        method,
        declared_phases(method, layer_groups(net.backbone)),
        records,
        val,
        seed=0,
        world=more.get("world") or World(0, 1, device),
        precision=more.get("precision", "float32"),
        watcher=more.get("watcher") or Quiet(),
        checkpoints=files,
    )
    return reports


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(step: Callable[[], object], device: torch.device, repeats: int, warm_up: int = 2) -> float:
    """Median seconds of a step, each measured to its end on the device."""
    for _ in range(warm_up):
        step()
    times = []
    for _ in range(repeats):
        wait(device)
        began = time.perf_counter()
        step()
        wait(device)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def union(spans: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """Time that is covered by at least one span, and time from the first begin to the last end."""
    covered, first, last = 0.0, None, 0.0
    for begin, end in sorted(spans):
        if first is None:
            first = last = begin
        covered += max(0.0, end - max(begin, last))
        last = max(last, end)
    return covered, last - (first or 0.0)


def idle_share(step: Callable[[], object], device: torch.device, steps: int) -> float | None:
    """Share of the time of `steps` steps in a row in which a card runs nothing; None without a card."""
    if device.type != "cuda":
        step()
        return None
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    step()
    wait(device)
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        for _ in range(steps):
            step()
        wait(device)
    # an optimiser's own annotation covers its kernels and what lies between them
    on_card = [e for e in profiled.events() if e.device_type == DeviceType.CUDA and not e.is_user_annotation]
    covered, whole = union((e.time_range.start, e.time_range.end) for e in on_card)
    return 1 - covered / whole if whole else None


KINDS = ("float32", "tf32", "bf16")


@contextlib.contextmanager
def arithmetic(kind: str, *, free: bool = False) -> Iterator[None]:
    """Products of float32 in float32 or tf32; `free` takes off what makes a run repeatable, as published code runs.

    bf16 is each step's own: a step within another autocast would keep its bf16 weights for the next step, and the time
    of their conversion would be missing.
    """
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = (matmul.allow_tf32, cudnn.allow_tf32, cudnn.deterministic, torch.are_deterministic_algorithms_enabled())
    matmul.allow_tf32 = cudnn.allow_tf32 = kind == "tf32"
    if free:
        cudnn.deterministic = False
        torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32, cudnn.deterministic, deterministic = before
        torch.use_deterministic_algorithms(deterministic, warn_only=True)


def matrix_rate(kind: str, device: torch.device, side: int) -> float:
    """Operations a second of a product of two random square matrices."""
    random = torch.randn(side, side, device=device)
    left = random.bfloat16() if kind == "bf16" else random
    with arithmetic(kind):
        return 2 * side**3 / seconds(lambda: left @ left, device, 10, warm_up=3)
