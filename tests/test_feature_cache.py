"""Features of a frozen backbone are computed once for all probes, and are those that a probe alone would compute."""

import io
import os
import shutil
import sys
import time
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor

from baselines.fcn import FCNWang
from baselines.net1d import Net1D, Net1DMini
from bench.cell import Cell
from bench.data.corruptions import Corruption
from bench.data.prepared import PreparedSignals, Scaling
from bench.data.signals import SignalSpec
from bench.errors import DataError
from bench.execute import Options, execute, make_backbone, make_method, makers
from bench.plugin import Classifier, register_backbone, register_method
from bench.registry import registry as registering
from bench.registry.reference import Reference
from bench.results.result import load_result
from bench.training import feature_cache
from bench.training.audit import prepare
from bench.training.batch import Start
from bench.training.batches import SignalSource
from bench.training.distributed import World
from bench.training.feature_cache import FeatureCache
from bench.training.features import compute_features
from bench.transfer import evaluate
from methods.lpft import LPFT

ALONE = World(0, 1, torch.device("cpu"))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The batch sizes of every forward pass of a Net1D from now on, but for those of two records, which are checks."""
    seen: list[int] = []
    forward = Net1D.forward

    def counted(self: Net1D, signals: Tensor) -> Tensor:
        seen.extend([len(signals)] if len(signals) > 2 else [])
        return forward(self, signals)

    monkeypatch.setattr(Net1D, "forward", counted)
    return seen


def source_of(num: int, length: int = 200) -> SignalSource:
    """Noise as if it came from the cache of prepared signals."""
    values = np.random.default_rng(0).integers(-9000, 9000, (num, 12, length)).astype(np.int16)
    ids = 7 + 3 * np.arange(num)
    signals = PreparedSignals(
        SignalSpec(100, "zscore"), 100, Scaling(), {}, ids, values, np.full(num, 1e-3, np.float32), "an-entry"
    )
    return SignalSource(signals, np.arange(num), torch.zeros(num, 2), torch.float32)


def features_of(model: Classifier, source: SignalSource, precision: Any) -> Tensor:
    (found,), _ = compute_features(model, [source], ALONE, precision)
    return found.features


def known_model() -> Classifier:
    torch.manual_seed(0)
    model = Classifier(Net1DMini(), 2)
    model.made_by = "a known maker"
    return model


def probe(demo_set: Path, runs: Path, task: str, method: str, **changes: Any) -> tuple[dict[str, Any], str]:
    """Predictions of a linear probe by fold, and what it said meanwhile."""
    said = io.StringIO()
    references = {"arch": Reference("net1d_mini"), "method": Reference.parse(method)}
    cell = Cell(data=demo_set, task=task, precision="float32", source_rate=100, **{**references, **changes})
    result = execute(cell, Options(runs=runs, console=Console(file=said, width=200)))
    with np.load(result.folder / "predictions.npz") as archive:
        return {key: archive[key] for key in archive.files}, said.getvalue()


@pytest.mark.slow
def test_the_next_probe_runs_no_backbone_and_scores_the_same(
    demo_set: Path, tmp_path: Path, cache: Path, passes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = "lp(probe_epochs=2)"
    first, _ = probe(demo_set, tmp_path / "first", "rhythm", quick)
    assert sum(passes) >= 240
    passes.clear()
    other_task, said = probe(demo_set, tmp_path / "second", "superdiag", "lp(probe_epochs=3)")
    assert sum(passes) <= 64 * 3, said
    assert "are known from an earlier run" in said
    passes.clear()
    probe(demo_set, tmp_path / "third", "superdiag", quick, fraction=0.5)
    assert passes == [], "another fraction needs nothing new"
    again, _ = probe(demo_set, tmp_path / "fourth", "rhythm", quick)
    assert passes == []
    probe(demo_set, tmp_path / "fifth", "rhythm", quick, seed=1)
    assert sum(passes) >= 240, "another seed draws other random weights"

    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "another cache"))
    alone, _ = probe(demo_set, tmp_path / "alone", "superdiag", "lp(probe_epochs=3)")
    for one, other in ((again, first), (other_task, alone)):
        assert one.keys() == other.keys()
        assert all(np.array_equal(one[key], other[key]) for key in one), "to the bit"


@pytest.mark.slow
def test_a_fitted_probe_runs_a_backbone_of_windows_once(
    demo_set: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of its scores on fold 9 needs the head alone; they are those of the whole model."""
    seen: list[int] = []
    forward = FCNWang.forward

    def counted(self: FCNWang, signals: Tensor) -> Tensor:
        seen.append(len(signals))
        return forward(self, signals)

    monkeypatch.setattr(FCNWang, "forward", counted)
    probe(demo_set, tmp_path / "runs", "superdiag", "lp-lbfgs", arch=Reference("fcn_wang"))
    num_windows, num_seen = len(FCNWang.signal_spec.window_starts(1000)), sum(seen)
    (folder,) = tmp_path.glob("runs/superdiag/*-lp-lbfgs-*[0-9a-f]")
    stored, tested = load_result(folder).predictions[10], evaluate(folder, demo_set, [Corruption.parse("gain=1")])

    assert num_windows > 1
    assert 240 * num_windows <= num_seen <= (240 + 3 * 64) * num_windows, "of training, fold 9 and 10; filled to 64"
    np.testing.assert_array_equal(tested.truths.predictions.ecg_id, stored.ecg_id)
    np.testing.assert_allclose(tested.truths.predictions.logits, stored.logits, atol=1e-4)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_features_hang_neither_on_the_company_nor_on_the_cache(cache: Path, passes: list[int], precision: Any) -> None:
    source, model = source_of(150), known_model()
    few = replace(source, rows=np.array([149, 3, 64, 70]), labels=torch.zeros(4, 2))

    alone = features_of(model, few, precision)
    whole = features_of(model, source, precision)
    assert passes == [64, 64, 64, 64], "146 that were missing, after 4"
    kept = features_of(model, source, precision)
    model.made_by = ""
    anew = features_of(model, source, precision)

    assert len(passes) == 7
    assert torch.equal(kept, whole) and torch.equal(alone, whole[few.rows])
    assert torch.equal(anew, whole), "records in other batches have the same features"
    assert whole.shape == (150, 1, 256) and float(whole.std(0).min()) > 0


def test_everything_that_changes_features_changes_the_key(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, signals, device = known_model(), source_of(2).signals, torch.device("cpu")
    first = FeatureCache.of(model, signals, "float32", device)
    assert first == FeatureCache.of(model, signals, "float32", device)
    assert first.folder.parent == cache / "features"

    keys = {first, FeatureCache.of(model, signals, "bf16", device)}
    keys.add(FeatureCache.of(model, replace(signals, entry="another"), "float32", device))
    with torch.no_grad():
        next(model.head.parameters()).add_(1)
    assert FeatureCache.of(model, signals, "float32", device) == first, "the head does not matter"
    with torch.no_grad():
        next(model.backbone.parameters())[0, 0, 0] += 1e-6
    keys.add(FeatureCache.of(model, signals, "float32", device))
    model.made_by = "another maker"
    keys.add(FeatureCache.of(model, signals, "float32", device))
    model.takes_tokens = True
    keys.add(FeatureCache.of(model, signals, "float32", device))
    monkeypatch.setattr(feature_cache, "_own_code", lambda: "changed code")
    keys.add(FeatureCache.of(model, signals, "float32", device))
    monkeypatch.setattr(torch, "__version__", "another version")
    keys.add(FeatureCache.of(model, signals, "float32", device))
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "another processor")
    keys.add(FeatureCache.of(model, signals, "float32", device))
    assert len(keys) == 9


def test_only_a_method_that_alters_the_backbone_has_features_of_its_own(demo_set: Path) -> None:
    def made_by(name: str, arch: str = "net1d_mini") -> str:
        cell = Cell(data=demo_set, task="superdiag", arch=Reference(arch), method=Reference(name))
        model = Classifier(make_backbone(cell.arch), 5)
        prepared = prepare(model, make_method(cell.method), Start("random", 10, (5,) * 5))
        return makers(cell, altered=not prepared.same_backbone)

    plain = made_by("lp")
    assert {made_by(name) for name in ("lpft", "lp-norm", "lp-attn", "knn", "scratch", "bitfit")} == {plain}
    altered = [made_by(name) for name in ("lora", "adapter", "ft-dropout")]
    assert len({plain, made_by("lp", "fcn_wang"), *altered}) == 5


def test_what_a_notebook_defines_has_no_cached_features(demo_set: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A helper in another cell may change, which the hash of the class's cell does not tell."""
    monkeypatch.setattr(registering._REGISTRY, "plugins", dict(registering.registry().plugins))

    def makers_of(arch: str, method: str = "lp", altered: bool = False) -> str:
        cell = Cell(data=demo_set, task="superdiag", arch=Reference(arch), method=Reference(method))
        return makers(cell, altered=altered)

    def defined_in(main: Path | None) -> None:
        module = types.ModuleType("__main__")
        module.__file__ = str(main) if main else None
        monkeypatch.setitem(sys.modules, "__main__", module)
        for name, parent, register in (("mine-nb", Net1DMini, register_backbone), ("mine-ft", LPFT, register_method)):
            register(name)(type("Mine", (parent,), {"__module__": "__main__"}))

    defined_in(None)
    assert makers_of("mine-nb") == "" and makers_of("net1d_mini", "mine-ft", altered=True) == ""
    assert makers_of("net1d_mini", "mine-ft") == makers_of("net1d_mini") != "", "as the backbone is unaltered"
    defined_in(Path(__file__))
    assert makers_of("mine-nb") != "", "the hash of a script's class is of its whole file"


def test_tokens_are_cached_beside_features(cache: Path) -> None:
    model, source = known_model(), source_of(4)
    features = features_of(model, source, "float32")
    model.use_tokens()
    tokens = [features_of(model, source, "float32") for _ in range(2)]

    files = list((cache / "features").glob("*/part-*.npz"))
    assert len(files) == 2, "the second time they are read, and not computed and written again"
    assert torch.equal(*tokens)
    assert tokens[0].dim() == 4 and torch.allclose(tokens[0].mean(2), features, atol=1e-5)


def test_what_two_processes_write_at_once_is_read_as_one(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path / "features" / "set")
    table = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
    cache.save(np.array([5, 1, 3]), table[[5, 1, 3]], 30.0)
    cache.save(np.array([3, 8, 1]), table[[3, 8, 1]], 3.0)

    known, features, seconds = cache.load(np.array([8, 2, 3, 5, 0, 1]))

    assert known.tolist() == [True, False, True, True, False, True]
    assert np.array_equal(features, table[[8, 3, 5, 1]])
    assert seconds[[0, 2]].tolist() == [1, 10], "a third of what each file's pass took"
    assert not cache.load(np.array([2, 4]))[0].any()
    assert FeatureCache(tmp_path / "none").load(np.array([1]))[0].tolist() == [False]


def test_a_set_that_was_removed_while_it_is_read_does_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = FeatureCache(tmp_path / "features" / "set")
    cache.save(np.arange(4), np.ones((4, 5)), 1.0)
    intersect = np.intersect1d

    def meanwhile(*given: Any, **options: Any) -> Any:
        shutil.rmtree(cache.folder, ignore_errors=True)
        return intersect(*given, **options)

    monkeypatch.setattr(np, "intersect1d", meanwhile)

    assert cache.load(np.arange(4))[0].all()


@pytest.mark.parametrize("known", [0, 40, 150])
def test_known_features_cost_what_they_took(known: int, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the clock of the test a record takes a second, and nothing else takes any time."""
    now, forward, source = 0.0, Net1D.forward, source_of(150)

    def timed(self: Net1D, signals: Tensor) -> Tensor:
        nonlocal now
        now += len(signals)
        return forward(self, signals)

    monkeypatch.setattr(Net1D, "forward", timed)
    monkeypatch.setattr("time.monotonic", lambda: now)
    if known:
        features_of(known_model(), replace(source, rows=source.rows[:known], labels=source.labels[:known]), "float32")

    _, seconds = compute_features(known_model(), [source], ALONE, "float32")

    assert seconds == pytest.approx({0: 192, 40: 192, 150: 192}[known]), "batches are filled up to 64"


def npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[:-40],
        lambda whole: whole[:2000] + b"other bytes" + whole[2011:],
        lambda whole: b"",
        lambda whole: npz(ecg_id=np.arange(4)),
        lambda whole: npz(ecg_id=np.arange(4), features=np.ones((4, 5))),
        lambda whole: npz(ecg_id=np.arange(4), features=np.ones((3, 5)), seconds=1.0),
        lambda whole: npz(ecg_id=np.arange(4), features=np.ones(4), seconds=1.0),
        lambda whole: npz(ecg_id=np.arange(4), features=np.full((4, 5), np.nan), seconds=1.0),
        lambda whole: npz(ecg_id=np.arange(4), features=np.array([["a"]] * 4), seconds=1.0),
    ],
    ids=["cut off", "other bytes", "empty", "no features", "no seconds", "too few", "flat", "NaN", "text"],
)
def test_what_a_damaged_file_held_is_computed_anew_with_a_note(damage: Any, cache: Path, passes: list[int]) -> None:
    source, model, notes = source_of(70), known_model(), list[str]()
    first = features_of(model, source, "float32")
    (part,) = cache.glob("features/*/part-*")
    part.write_bytes(damage(part.read_bytes()))
    passes.clear()

    (found,), _ = compute_features(model, [source], ALONE, "float32", notes.append)

    assert torch.equal(found.features, first) and sum(passes) == 128
    assert f"{part} is damaged" in notes[0] and notes[0].endswith("and is removed; its features are computed again")
    assert not part.exists() and len([*cache.glob("features/*/part-*")]) == 1
    features_of(model, source, "float32")
    assert sum(passes) == 128, "and are kept"


def test_features_that_are_not_finite_are_named_and_not_kept(cache: Path) -> None:
    source = source_of(70)
    values = source.signals.scale.copy()
    values[[9, 33]] = np.nan
    bad = replace(source, signals=replace(source.signals, scale=values))
    expected = "NaN or infinite features for 2 of 70 records, the first ecg_id 34; try --precision float32"

    with pytest.raises(DataError, match=expected):
        compute_features(known_model(), [bad], ALONE, "float32")

    assert not [*cache.glob("features/*/part-*")]


def test_room_is_made_by_what_was_longest_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sets = [FeatureCache(tmp_path / "features" / name) for name in "abc"]
    for age, one in enumerate(sets[:2]):
        one.save(np.arange(10), np.zeros((10, 100)), 1.0)
        os.utime(one.folder, (age, age))
    assert sets[0].load(np.arange(1))[0].all(), "used last"
    monkeypatch.setattr(feature_cache, "LIMIT_BYTES", 20_000)

    sets[2].save(np.arange(10), np.zeros((10, 100)), 1.0)

    assert sorted(folder.name for folder in (tmp_path / "features").iterdir()) == ["a", "c"]


def test_sets_that_others_remove_meanwhile_do_not_stop_a_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs make room at once: a file, and a folder, may go between two looks at them."""
    (tmp_path / "features" / "leaving").mkdir(parents=True)
    (tmp_path / "features" / "leaving" / "part-1.npz").symlink_to("gone")
    (tmp_path / "features" / "gone").symlink_to("nowhere")
    monkeypatch.setattr(Path, "exists", lambda path: True)  # it was there a moment ago
    monkeypatch.setattr(feature_cache, "LIMIT_BYTES", 100)
    cache = FeatureCache(tmp_path / "features" / "a")

    cache.save(np.arange(10), np.ones((10, 100)), 1.0)

    assert cache.load(np.arange(10))[0].all()


def test_a_set_that_is_too_large_alone_stays_while_it_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_cache, "LIMIT_BYTES", 100)
    cache = FeatureCache(tmp_path / "features" / "a")

    cache.save(np.arange(10), np.ones((10, 100)), 1.0)

    assert cache.load(np.arange(10))[0].all()


def test_a_cache_of_others_is_read(cache: Path, passes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may do all, so the refusal of a folder of others is played."""
    (first,), _ = compute_features(known_model(), [source_of(3)], ALONE, "float32")

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "utime", refuse)
    (again,), _ = compute_features(known_model(), [source_of(3)], ALONE, "float32")

    assert len(passes) == 1 and torch.equal(first.features, again.features)


def test_a_cache_that_cannot_be_written_costs_no_run(cache: Path, passes: list[int]) -> None:
    cache.mkdir()
    (cache / "features").write_text("in the way")
    said: list[str] = []

    for _ in range(2):
        (found,), _ = compute_features(known_model(), [source_of(3)], ALONE, "float32", said.append)
        features = found.features

    assert len(passes) == 2 and features.shape == (3, 1, 256)
    assert [line.partition(":")[0] for line in said] == [
        "computing features of 3 records",
        "these features are not cached",
    ] * 2


def test_the_cost_of_a_run_includes_features_that_an_earlier_run_computed(demo_set: Path, cache: Path) -> None:
    """Else the second probe of the same weights would seem to be cheaper than the first."""
    runs = cache.parent / "runs"

    def cost_of(epochs: int) -> tuple[float, float]:
        method = Reference("lp", {"probe_epochs": epochs})
        cell = Cell(data=demo_set, task="superdiag", arch=Reference("prevalence"), method=method, precision="float32")
        began = time.monotonic()
        cost = execute(cell, Options(runs=runs)).document["cost"]["seconds"]
        return cost, time.monotonic() - began

    first, took = cost_of(1)
    assert first <= took
    parts = [*cache.rglob("part-*.npz")]
    assert len(parts) == 3, "folds 1 to 8, fold 9, fold 10"
    for part in parts:
        with np.load(part) as file:
            arrays = dict(file)
        np.savez(part, **{**arrays, "seconds": 1000.0})

    second, took = cost_of(2)
    assert 2990 < second < 3000 + took


def test_files_of_another_width_are_computed_anew(tmp_path: Path) -> None:
    notes: list[str] = []
    for name, width in (("a", 3), ("b", 4)):
        kept = {"ecg_id": np.array([ord(name)]), "features": np.ones((1, width), np.float32), "seconds": 0.0}
        np.savez(tmp_path / f"part-{name}.npz", **kept)

    known, features, _ = FeatureCache(tmp_path).load(np.array([ord("a"), ord("b")]), notes.append)

    assert known.tolist() == [True, False] and features.shape == (1, 3)
    assert "part-b.npz is damaged (its features are [4], those of other files [3])" in notes[0]
    assert not (tmp_path / "part-b.npz").exists()
