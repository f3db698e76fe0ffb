"""What training leaves: frozen parts untouched, the selected epoch's weights, and the same ones after any kill."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from baselines.fcn import FCNWang
from baselines.net1d import Net1D, Net1DMini
from bench.data.prepared import PreparedSignals, Scaling
from bench.data.signals import SignalSpec
from bench.errors import BenchError, DataError, Incompatible, PluginError
from bench.plugin import Backbone, DropPath
from bench.training.batch import Augmented, Batch, Inputs, SignalBatch, augmented
from bench.training.batches import FeatureSource, SignalSource
from bench.training.checkpoint import Checkpoints
from bench.training.distributed import World
from bench.training.features import predict, require_finite_logits
from bench.training.judge import Judge
from bench.training.loop import PhaseRun, rehearse, train
from bench.training.method import Gradients, Method
from bench.training.model import Classifier, layer_groups
from bench.training.phase import EMA, SWA, Phase
from bench.training.precision import Precision, resolve_precision
from bench.training.report import PhaseReport
from bench.training.step import gather_batch
from methods.layerwise import GradualUnfreezing, LayerwiseDecay
from methods.linear_probe import LinearProbe
from methods.lpft import LPFTStochasticDepth

ALONE = World(0, 1, torch.device("cpu"))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Small tensors are quicker so, above all beside other jobs."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


class Flat(Backbone):
    """Features are the leads' means: nothing to train but the head."""

    signal_spec = SignalSpec(100, "none")
    feature_dim = 12

    def forward(self, signals: Tensor) -> Tensor:
        return signals.mean(-1)


class Tied(Backbone):
    """One block, four times."""

    signal_spec = SignalSpec(100, "none")
    feature_dim = 12

    def __init__(self) -> None:
        super().__init__()
        block = nn.Sequential(nn.Conv1d(12, 12, 3, padding=1), nn.BatchNorm1d(12), nn.ReLU())
        self.stem, self.blocks = nn.Conv1d(12, 12, 1), nn.ModuleList([block] * 4)

    def forward(self, signals: Tensor) -> Tensor:
        x = self.stem(signals)
        for block in self.blocks:
            x = x + block(x)
        return x.mean(-1)


class Mixed(Backbone):
    """All that draws or remembers: batch norm, dropout, stochastic depth."""

    signal_spec = SignalSpec(100, "none")
    feature_dim = 16

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv1d(12, 16, 5, 2), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2))
        self.blocks = nn.ModuleList(nn.Sequential(nn.Conv1d(16, 16, 3, padding=1), nn.ReLU()) for _ in range(2))
        self.paths = nn.ModuleList(DropPath() for _ in range(2))

    def forward(self, signals: Tensor) -> Tensor:
        x = self.stem(signals)
        for block, path in zip(self.blocks, self.paths, strict=True):
            x = x + path(block(x))
        return x.mean(-1)


def small_net1d() -> Net1D:
    return Net1D(SignalSpec(100, "none"), stem=16, widths=(16, 32), depths=(2, 2), kernel_size=8)


def sources(num_train: int = 40, num_val: int = 30, time: int = 32) -> tuple[FeatureSource, FeatureSource]:
    """Records whose first three leads carry three labels, in noise."""
    torch.manual_seed(7)
    labels = (torch.rand(num_train + num_val, 3) < 0.4).float()
    signals = torch.randn(num_train + num_val, 1, 12, time)
    signals[:, 0, :3] += labels[:, :, None]
    cut = num_train
    return FeatureSource(signals[:cut], labels[:cut]), FeatureSource(signals[cut:], labels[cut:])


@dataclass
class Watch:
    """Remembers, and stops the run like a kill where it is told to."""

    stop: Callable[[str, int], bool] = lambda event, count: False
    notes: list[str] = field(default_factory=list)
    epochs: list[dict[str, Any]] = field(default_factory=list)
    steps: int = 0
    done: list[int] = field(default_factory=list)
    predicted: list[tuple[str, int, int]] = field(default_factory=list)
    phases_ended: int = 0

    def phase_begins(self, name: str, num_epochs: int, steps_per_epoch: int, steps_done: int) -> None:
        self.done.append(steps_done)

    def step_ends(self) -> None:
        self.steps += 1
        if self.stop("step", self.steps):
            raise KeyboardInterrupt

    def predicts(self, what: str, done: int, total: int) -> None:
        self.predicted.append((what, done, total))

    def epoch_ends(self, facts: dict[str, Any]) -> None:
        self.epochs.append(facts)
        if self.stop("epoch", len(self.epochs)):
            raise KeyboardInterrupt

    def phase_ends(self) -> None:
        self.phases_ended += 1

    def note(self, text: str) -> None:
        self.notes.append(text)


@dataclass
class Recipe(Method):
    """The phases that a test gives."""

    given: Sequence[Phase]

    def phases(self, layer_groups: Sequence[str]) -> Sequence[Phase]:
        return self.given


@dataclass
class OwnLoss(Recipe):
    """The harness's own loss, written anew, so that it must be given signals."""

    needs_signals = True

    def loss(self, batch: Batch) -> Tensor:
        assert batch.signals.shape[1:] == (12, 32)
        return nn.functional.binary_cross_entropy_with_logits(batch.forward(batch.signals), batch.labels)


def phase(parts: dict[str, float], **options: Any) -> Phase:
    return Phase(**{"name": "phase", "learning_rates": parts, "epochs": 3, "batch_size": 11, **options})


def run(*inputs: Any, **options: Any) -> list[PhaseReport]:
    return run_with_logits(*inputs, **options)[0]


def run_with_logits(
    model: Classifier,
    method: Method,
    folder: Path,
    data: tuple[FeatureSource, FeatureSource] | None = None,
    watch: Watch | None = None,
    seed: int = 0,
    precision: Precision = "float32",
    minutes: float = 10.0,
) -> tuple[list[PhaseReport], Tensor]:
    train_source, val_source = data or sources()
    watch = watch or Watch()
    return train(
        model,
        method,
        method.phases(layer_groups(model.backbone)),
        train_source,
        val_source,
        seed=seed,
        world=ALONE,
        precision=precision,
        watcher=watch,
        checkpoints=Checkpoints(folder, writes=True, note=watch.note, minutes=minutes),
    )


def model_of(backbone: Callable[[], Backbone]) -> Classifier:
    torch.manual_seed(3)
    return Classifier(backbone(), 3)


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in model.state_dict().items()}


def moved(model: nn.Module, before: dict[str, Tensor]) -> set[str]:
    return {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}


@pytest.mark.parametrize("method", [Recipe, OwnLoss])
@pytest.mark.parametrize("backbone", [FCNWang, small_net1d, Mixed])
def test_a_frozen_backbone_is_bit_identical_after_a_phase(
    backbone: Callable[[], Backbone], method: type[Recipe], tmp_path: Path
) -> None:
    model = model_of(backbone)
    before = weights(model)

    run(model, method([phase({"head": 1e-2})]), tmp_path)

    assert moved(model, before) == {"head.weight", "head.bias"}


@pytest.mark.parametrize("part", ["backbone.tail", "backbone.layers.2"])
def test_only_the_trained_parts_move_their_buffers_too(part: str, tmp_path: Path) -> None:
    model = model_of(FCNWang)
    before = weights(model)

    run(model, Recipe([phase({part: 1e-2, "head": 1e-2})]), tmp_path)

    expected = {key for key in before if key.startswith((part + ".", "head."))}
    assert any("running_mean" in key for key in expected)
    assert moved(model, before) == expected


def test_full_fine_tuning_moves_all_but_the_uncalled_batch_norm(tmp_path: Path) -> None:
    model = model_of(small_net1d)
    before = weights(model)

    (report,) = run(model, Recipe([phase({"backbone": 1e-2, "head": 1e-2})]), tmp_path)

    called = {key for key in before if "bn" not in key}
    assert moved(model, before) == called
    assert report.trainable_parameters == sum(before[key].numel() for key in called)
    assert not report.on_features


def test_parts_learn_at_their_own_rates(tmp_path: Path) -> None:
    model = model_of(small_net1d)
    before = weights(model)
    parts = {"backbone": 1e-6, "backbone.stage_list.1": 1e-2}

    run(model, Recipe([phase(parts, epochs=1)]), tmp_path)

    steps = {key: (model.state_dict()[key] - before[key]).abs().max().item() for key in moved(model, before)}
    assert all((step > 1e-4) == key.startswith("backbone.stage_list.1") for key, step in steps.items())
    assert not any(key.startswith("head") for key in steps) and len(steps) > 20


def turning() -> tuple[Classifier, tuple[FeatureSource, FeatureSource]]:
    """The head starts with what is right on fold 9; training teaches it what is wrong there."""
    train_source, val_source = sources()
    for source, sign in ((train_source, 1), (val_source, -5)):
        truth = source.labels * 2 - 1
        source.features[:, 0] = 0
        source.features[:, 0, :3] = 0.01 * truth[:, :, None]
        source.features[:, 0, 3:6] = sign * truth[:, :, None]
    model = model_of(Flat)
    with torch.no_grad():
        model.head.weight.zero_()[:, :3] = 200 * torch.eye(3)
    return model, (train_source, val_source)


@pytest.mark.parametrize(("selection", "best_epoch"), [("best", 1), ("lowest-loss", 1), ("last", 6)])
def test_the_selected_epoch_leaves_the_phase(selection: Any, best_epoch: int, tmp_path: Path) -> None:
    """With its logits on fold 9."""
    model, data = turning()
    first, _ = turning()
    only = phase({"head": 0.05}, epochs=6, selection=selection)
    run(first, Recipe([replace(only, epochs=best_epoch, selection="last")]), _new(tmp_path, "first"), data)

    (report,), logits = run_with_logits(model, Recipe([only]), _new(tmp_path, "whole"), data)

    assert torch.equal(logits, predict(model, data[1], "max", ALONE, "float32"))
    assert report.val_macro_auroc[0] == max(report.val_macro_auroc) > 0.9 and report.val_macro_auroc[-1] < 0.1
    assert (report.best_epoch, report.selection) == (best_epoch, selection)
    assert moved(model, weights(first)) == set()


@pytest.mark.parametrize(("selection", "best_epoch"), [("best", 1), ("lowest-loss", 6)])
def test_the_lowest_loss_is_not_the_best_auroc(selection: Any, best_epoch: int, tmp_path: Path) -> None:
    """A head that ranks perfectly from the start, at a level far too low, only becomes surer."""
    model, data = turning()
    for source in data:
        source.features[:, 0, 3:6] = 0
    with torch.no_grad():
        model.head.bias.fill_(-5)

    (report,) = run(model, Recipe([phase({"head": 0.05}, epochs=6, selection=selection)]), tmp_path, data)

    assert report.best_epoch == best_epoch
    assert min(report.val_loss) == report.val_loss[-1] < report.val_loss[0]
    assert report.val_macro_auroc == report.val_macro_auroc[:1] * 6


def test_both_fold_9_macros_are_recorded_and_all_labels_select(tmp_path: Path) -> None:
    """Label 0 has 3 positives in fold 9, the others 15 of each class."""
    model, (train_source, val_source) = turning()
    val_source.labels[:, 0] = (torch.arange(30) < 3).float()
    val_source.labels[:, 1:] = (torch.arange(30)[:, None] % 2 == torch.arange(2)).float()
    watch = Watch()

    (report,) = run(model, Recipe([phase({"head": 0.05}, epochs=6)]), tmp_path, (train_source, val_source), watch)

    with torch.no_grad():
        logits = model.eval().head(model.backbone(val_source.features[:, 0]))
    by_label = [roc_auc_score(val_source.labels[:, k], logits[:, k]) for k in range(3)]
    kept = report.best_epoch - 1
    assert report.val_macro_auroc[kept] == max(report.val_macro_auroc) == pytest.approx(sum(by_label) / 3, abs=1e-12)
    assert report.val_macro_auroc_frequent[kept] == pytest.approx(sum(by_label[1:]) / 2, abs=1e-12)
    assert report.val_macro_auroc_frequent == [epoch["val_macro_auroc_frequent"] for epoch in watch.epochs]


def test_without_a_frequent_label_in_fold_9_no_frequent_macro_is_recorded(tmp_path: Path) -> None:
    data = sources(num_val=12)

    (report,) = run(model_of(small_net1d), Recipe([phase({"head": 0.05}, epochs=2)]), tmp_path, data)

    assert report.val_macro_auroc_frequent == [None, None]


def _new(folder: Path, name: str) -> Path:
    (folder / name).mkdir()
    return folder / name


def test_the_next_phase_starts_from_the_best_epoch_of_the_one_before(tmp_path: Path) -> None:
    first, data = turning()
    both, _ = turning()
    probe = phase({"head": 0.05}, epochs=6)
    still = phase({"head": 1e-12}, epochs=1, name="still", selection="last")

    run(first, Recipe([probe]), _new(tmp_path, "first"), data)
    reports = run(both, Recipe([probe, still]), _new(tmp_path, "both"), data)

    assert reports[0].best_epoch == 1 and len(reports[0].train_loss) == 6
    torch.testing.assert_close(both.head.weight, first.head.weight, rtol=0, atol=1e-9)
    assert reports[1].val_macro_auroc == reports[0].val_macro_auroc[:1] > reports[0].val_macro_auroc[1:]


def test_predictions_of_fold_9_and_features_are_counted(tmp_path: Path) -> None:
    on_signals, on_features = Watch(), Watch()
    data = sources(num_train=70, num_val=130)

    run(model_of(small_net1d), Recipe([phase({"backbone": 1e-3, "head": 1e-3})]), _new(tmp_path, "a"), data, on_signals)
    run(model_of(small_net1d), Recipe([phase({"head": 1e-3})]), _new(tmp_path, "b"), data, on_features)

    fold_9 = [("fold 9", 64, 130), ("fold 9", 128, 130), ("fold 9", 130, 130)]
    assert on_signals.predicted == fold_9 * (len(on_signals.predicted) // 3) != []
    features = [("features", 64, 70), ("features", 70, 70), ("features", 64, 130)]
    assert on_features.predicted[:3] == features


@pytest.mark.parametrize("backbone", [small_net1d, Mixed])
def test_features_computed_once_give_the_same_head(backbone: Callable[[], Backbone], tmp_path: Path) -> None:
    fast, slow = model_of(backbone), model_of(backbone)
    own = OwnLoss([phase({"head": 1e-2}, epochs=5, selection="last")])
    calls = {"fast": 0, "slow": 0}
    fast.backbone.register_forward_hook(lambda *_: calls.__setitem__("fast", calls["fast"] + 1))
    slow.backbone.register_forward_hook(lambda *_: calls.__setitem__("slow", calls["slow"] + 1))

    (on_features,) = run(fast, Recipe(own.given), _new(tmp_path, "fast"))
    (on_signals,) = run(slow, own, _new(tmp_path, "slow"))

    torch.testing.assert_close(fast.head.weight, slow.head.weight, rtol=0, atol=1e-5)
    torch.testing.assert_close(
        torch.tensor(on_features.train_loss), torch.tensor(on_signals.train_loss), rtol=1e-5, atol=0
    )
    assert on_features.on_features and not on_signals.on_features
    assert 0 < on_features.feature_seconds < on_features.seconds and on_signals.feature_seconds == 0
    assert calls["fast"] == 2 and calls["slow"] > 20, "once for the training records, once for fold 9"


def test_a_backbone_that_sees_crops_has_no_features_to_keep(tmp_path: Path) -> None:
    (report,) = run(model_of(FCNWang), Recipe([phase({"head": 1e-2}, epochs=1)]), tmp_path)

    assert not report.on_features


@pytest.mark.parametrize("lr_schedule", ["cosine", "one-cycle", "plateau"])
def test_a_phase_of_a_single_step_has_a_schedule(lr_schedule: Any, tmp_path: Path) -> None:
    run(model_of(Flat), Recipe([phase({"head": 0.1}, epochs=1, batch_size=64, lr_schedule=lr_schedule)]), tmp_path)


def test_a_plateau_cuts_the_rate(tmp_path: Path) -> None:
    model, data = turning()
    watch = Watch()

    run(model, Recipe([phase({"head": 1e-6}, epochs=14, lr_schedule="plateau")]), tmp_path, data, watch)

    rates = [facts["learning_rate"] for facts in watch.epochs]
    assert rates == pytest.approx([1e-6] * 11 + [1e-7] * 3), "after ten epochs without a better one"


@pytest.mark.parametrize("gradient_clip_norm", [None, 0.01])
def test_clipping_bounds_the_gradient(gradient_clip_norm: float | None, tmp_path: Path) -> None:
    model = model_of(small_net1d)
    before = weights(model)

    run(
        model,
        PlainSGD(
            [phase({"backbone": 1.0, "head": 1.0}, epochs=1, batch_size=64, gradient_clip_norm=gradient_clip_norm)]
        ),
        tmp_path,
    )

    step = sum((model.state_dict()[key] - value).double().square().sum() for key, value in before.items()) ** 0.5
    if gradient_clip_norm:
        assert float(step) == pytest.approx(gradient_clip_norm, rel=1e-3)
    else:
        assert step > 0.1


class PlainSGD(Recipe):
    """Steps are the gradient times the rate."""

    def optimizer(self, groups: list[dict[str, Any]], phase: Phase, gradients: Gradients) -> torch.optim.Optimizer:
        return torch.optim.SGD(groups)


def test_a_step_follows_its_own_gradient_alone(tmp_path: Path) -> None:
    model, by_hand = model_of(Flat), model_of(Flat)
    data = sources()
    for _ in range(3):
        by_hand.zero_grad()
        logits = by_hand(data[0].features[:, 0])
        nn.functional.binary_cross_entropy_with_logits(logits, data[0].labels).backward()
        with torch.no_grad():
            for parameter in by_hand.head.parameters():
                parameter -= 0.5 * parameter.grad

    run(model, PlainSGD([phase({"head": 0.5}, batch_size=64, selection="last")]), tmp_path, data)

    torch.testing.assert_close(model.head.weight, by_hand.head.weight, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rate", [0.2, 0.7])
def test_drop_path_drops_at_its_rate(rate: float, tmp_path: Path) -> None:
    model, kept = model_of(Mixed), list[Tensor]()
    last = [module for module in model.modules() if isinstance(module, DropPath)][-1]
    last.register_forward_hook(lambda module, *_: kept.append(module.keep) if module.training else None)

    run(model, Recipe([phase({"backbone": 1e-3}, drop_path_rate=rate, epochs=15)]), tmp_path)

    drawn = torch.cat(kept).double()
    assert len(drawn) == 15 * 40
    assert drawn.mean().item() == pytest.approx(1 - rate, abs=5 * (rate * (1 - rate) / 600) ** 0.5)


def test_nothing_is_dropped_after_the_last_phase(tmp_path: Path) -> None:
    model = model_of(Mixed)
    paths = [module for module in model.modules() if isinstance(module, DropPath)]

    run(model, Recipe([phase({"backbone": 1e-3}, drop_path_rate=0.5)]), tmp_path)

    assert [path.drop_prob for path in paths] == [0, 0]
    assert [path.keep for path in paths] == [None, None]


def test_drop_path_is_on_in_its_phase_only(tmp_path: Path) -> None:
    model = model_of(Mixed)
    paths = [module for module in model.modules() if isinstance(module, DropPath)]
    rates: list[list[float]] = []
    model.register_forward_pre_hook(
        lambda *_: rates.append([path.drop_prob for path in paths]) if model.backbone.stem.training else None
    )
    kept: list[Tensor] = []
    paths[1].register_forward_hook(lambda module, *_: kept.append(module.keep) if module.training else None)
    parts = {"backbone": 1e-3, "head": 1e-3}

    run(
        model,
        Recipe([phase(parts, drop_path_rate=0.5, name="with", epochs=20), phase(parts, name="without")]),
        tmp_path,
    )

    assert rates[: 20 * 4] == [[0.0, 0.5]] * 80 and rates[80:] == [[0.0, 0.0]] * 12
    drawn = torch.cat(kept[:80]).double()
    assert len(drawn) == 20 * 40 and drawn.mean().item() == pytest.approx(0.5, abs=5 * (0.25 / 800) ** 0.5)
    assert [path.drop_prob for path in paths] == [0, 0] and paths[1].keep is None


@pytest.mark.parametrize(("part", "shape"), [("backbone.first_conv", "linear"), ("head", "constant")])
def test_stochastic_depth_that_would_drop_nothing_is_declined(part: str, shape: Any) -> None:
    with pytest.raises(Incompatible, match=r"has drop_path_rate 0\.5, and no block that it trains would drop"):
        rehearse(Classifier(Net1DMini(), 3), [phase({part: 1e-3}, drop_path_rate=0.5, drop_path_shape=shape)])
    rehearse(Classifier(Net1DMini(), 3), [phase({"backbone.stage_list.3": 1e-3}, drop_path_rate=0.5)])


def test_two_phases_of_one_name_are_refused() -> None:
    phases = [phase({"head": 1e-3}, name=name) for name in ("early", "late", "late")]
    with pytest.raises(PluginError, match="the method has several phases named 'late'; give each phase its own name"):
        rehearse(model_of(Flat), phases)


def test_a_rank_without_records_runs_batch_norm_in_the_type_of_its_statistics(tmp_path: Path) -> None:
    """torch's SyncBatchNorm would send bf16 zeros where the other ranks send float32, and all would wait for ever."""
    model, seen = model_of(Mixed), list[torch.dtype]()
    model.backbone.stem[1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].dtype))
    train_source, val_source = sources()
    run = PhaseRun(model, Recipe([]), phase({"backbone": 1e-3}), ALONE, "bf16", 0, set())
    files = Checkpoints(tmp_path, writes=False, note=print)
    run.begin(train_source, val_source, [PhaseReport("phase", 0, False, "best")], Watch(), files, None)
    model.eval()

    for num in (2, 0):
        run.masks.begin_step((0,), num, slice(0, num))
        run.steps._backward(Inputs(torch.zeros(num, 12, 32), torch.zeros(num, 3), torch.arange(num), {}), 0, 2)

    assert seen == [torch.bfloat16, torch.float32]


def test_divergence_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"training diverged in phase phase, epoch \d: .* lower learning rate"):
        run(model_of(small_net1d), Recipe([phase({"backbone": 1e30, "head": 1e30})]), tmp_path)


def test_scores_that_are_not_finite_name_their_record() -> None:
    logits, ecg_id = torch.zeros(4, 2), np.array([3, 7, 20, 21])
    require_finite_logits(logits, ecg_id, 10)
    logits[2, 1], logits[3, 0] = torch.inf, torch.nan
    with pytest.raises(DataError, match="scores for 2 of 4 records of fold 10, the first ecg_id 20; try --precision"):
        require_finite_logits(logits, ecg_id, 10)


def test_features_of_a_frozen_backbone_that_are_not_finite_are_no_divergence(tmp_path: Path) -> None:
    train_source, val_source = sources()
    val_source.features[3] = torch.inf

    with pytest.raises(BenchError, match="NaN or infinite features for 1 of 30 records"):
        run(model_of(Flat), Recipe([phase({"head": 1e-3})]), tmp_path, (train_source, val_source))


def test_a_fold_9_that_cannot_select_is_said_before_training(tmp_path: Path) -> None:
    train_source, val_source = sources()
    val_source.labels[:] = torch.tensor([0.0, 1.0, 0.0])
    watch = Watch()

    with pytest.raises(BenchError, match="no label has both a positive and a negative in fold 9"):
        run(model_of(Flat), Recipe([phase({"head": 1e-3})]), tmp_path, (train_source, val_source), watch)

    assert watch.steps == 0


def test_one_training_record_is_too_few(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="there is a single training record"):
        run(model_of(Flat), Recipe([phase({"head": 1e-3})]), tmp_path, sources(num_train=1))


def test_a_last_batch_of_one_record_does_not_stop_batch_norm(tmp_path: Path) -> None:
    (report,) = run(
        model_of(FCNWang), Recipe([phase({"backbone": 1e-3}, epochs=1, batch_size=13)]), tmp_path, sources(40)
    )

    assert len(report.train_loss) == 1


def lpft_sd() -> Method:
    small = LPFTStochasticDepth(probe_epochs=3, finetune_epochs=3, probe_lr=0.05, finetune_lr=5e-3)
    return Recipe([replace(each, batch_size=11, gradient_clip_norm=1.0) for each in small.phases(())])


def biases() -> Method:
    parts = {"head": 0.05, "backbone.*.bias": 5e-3}
    return Recipe(
        [phase({"head": 0.05}, epochs=2), phase(parts, epochs=2, gradient_clip_norm=1.0, lr_schedule="cosine")]
    )


def one_cycle() -> Method:
    parts = {"backbone": 1e-2, "head": 1e-2}
    return Recipe(
        [
            phase(parts, epochs=2, lr_schedule="plateau"),
            phase({"backbone.stem": 1e-2}, epochs=2, lr_schedule="one-cycle"),
        ]
    )


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_the_same_command_twice_is_the_same_bit_for_bit(precision: Precision, tmp_path: Path) -> None:
    models = [model_of(Mixed) for _ in range(3)]

    reports = [
        run(model, lpft_sd(), _new(tmp_path, str(i)), seed=i // 2, precision=precision)
        for i, model in enumerate(models)
    ]

    assert moved(models[0], weights(models[1])) == set()
    assert reports[0][1].train_loss == reports[1][1].train_loss
    assert reports[0][1].train_loss != reports[2][1].train_loss, "another seed is another run"


@dataclass
class Noisy(Recipe):
    """A loss that draws from torch's own generator, as a plugin may."""

    needs_signals = True

    def loss(self, batch: Batch) -> Tensor:
        noisy = batch.signals + 0.1 * torch.randn_like(batch.signals)
        return nn.functional.binary_cross_entropy_with_logits(batch.forward(noisy), batch.labels)


def noisy() -> Method:
    return Noisy([phase({"backbone": 1e-2, "head": 1e-2}, epochs=2, gradient_clip_norm=1.0)])


@pytest.mark.parametrize("minutes", [10.0, 0.0])
@pytest.mark.parametrize("method", [lpft_sd, one_cycle, noisy, biases])
def test_a_run_killed_at_any_moment_ends_as_if_it_had_not_been(
    method: Callable[[], Method], minutes: float, tmp_path: Path
) -> None:
    whole = model_of(Mixed)
    undisturbed, logits_of_whole = run_with_logits(whole, method(), _new(tmp_path, "whole"))
    num_steps, num_epochs = 4 * sum(p.epochs for p in method().phases(())), sum(p.epochs for p in method().phases(()))
    moments = [("step", at) for at in range(1, num_steps + 1, 2)] + [("epoch", at) for at in range(1, num_epochs + 1)]
    for event, at in moments:
        folder = _new(tmp_path, f"{event}-{at}")
        kill = Watch(lambda e, n, event=event, at=at: (e, n) == (event, at))
        with pytest.raises(KeyboardInterrupt):
            run(model_of(Mixed), method(), folder, watch=kill, minutes=minutes)
        model, watch = model_of(Mixed), Watch()

        reports, logits = run_with_logits(model, method(), folder, watch=watch)

        assert moved(model, weights(whole)) == set(), f"killed at {event} {at}"
        assert torch.equal(logits, logits_of_whole)
        assert [without_clock(report) for report in reports] == [without_clock(report) for report in undisturbed]
        reached = at if event == "step" else 4 * at
        done = reached if minutes == 0 else (reached - 1) // 4 * 4
        assert watch.steps == num_steps - done, "what was saved is not run again"
        assert num_steps - done == sum(4 * p.epochs for p in method().phases(())[-len(watch.done) :]) - watch.done[0]
        assert any("resumed in phase" in note for note in watch.notes) == (done > 0)


def without_clock(report: PhaseReport) -> dict[str, Any]:
    return {key: value for key, value in asdict(report).items() if key not in ("seconds", "feature_seconds")}


@dataclass
class Clocked(Recipe):
    """By the clock of the test a step takes a second, and nothing else takes any time."""

    clock: "Clock"
    needs_signals = True

    def loss(self, batch: Batch) -> Tensor:
        self.clock.now += 1
        return super().loss(batch)


class Clock:
    now = 0.0


@pytest.mark.parametrize("minutes", [0.0, 9.0])
@pytest.mark.parametrize("moment", [("step", 3), ("step", 6), ("epoch", 2)])
def test_seconds_add_up_over_attempts_to_those_of_work_that_counts(
    moment: tuple[str, int], minutes: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    method = Clocked([phase({"backbone": 1e-2, "head": 1e-2})], clock)
    monkeypatch.setattr("time.monotonic", lambda: clock.now)
    kill = Watch(lambda *event: event == moment)
    with pytest.raises(KeyboardInterrupt):
        run(model_of(Mixed), method, tmp_path, watch=kill, minutes=minutes)
    clock.now += 1000
    watch = Watch()

    (report,) = run(model_of(Mixed), method, tmp_path, watch=watch)

    assert report.seconds == 3 * 4
    assert watch.epochs[0]["seconds"] == 4
    state = Checkpoints(tmp_path, writes=False, note=print).newest()
    assert state is not None and state["run_seconds"] == 3 * 4


def test_features_that_a_killed_run_computes_again_count_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the clock of the test a pass through the backbone takes a second, and nothing else takes any time."""
    now = 0.0

    class Slow(Flat):
        def forward(self, signals: Tensor) -> Tensor:
            nonlocal now
            now += 1
            return super().forward(signals)

    monkeypatch.setattr("time.monotonic", lambda: now)
    method = Recipe([phase({"head": 1e-2})])
    with pytest.raises(KeyboardInterrupt):
        run(model_of(Slow), method, tmp_path, watch=Watch(lambda *event: event == ("epoch", 2)))

    (report,) = run(model_of(Slow), method, tmp_path)

    assert now == 4 and report.seconds == 2, "the training records and fold 9, in each attempt"


@pytest.mark.parametrize("at", [1, 2, 4])
def test_a_resumed_run_knows_the_best_score_before_the_kill(at: int, tmp_path: Path) -> None:
    """The best epoch is the first; a run that forgot its score would take the first one after the kill."""
    only = Recipe([phase({"head": 0.05}, epochs=5, selection="best")])
    (whole, data), (again, _), (killed, _) = turning(), turning(), turning()
    (undisturbed,) = run(whole, only, _new(tmp_path, "whole"), data)
    folder = _new(tmp_path, "killed")
    with pytest.raises(KeyboardInterrupt):
        run(killed, only, folder, data, Watch(lambda *event: event == ("step", 4 * at + 1)))

    (report,) = run(again, only, folder, data)

    assert report.best_epoch == undisturbed.best_epoch == 1
    assert moved(again, weights(whole)) == set()


def test_a_run_killed_twice_with_a_damaged_checkpoint_ends_the_same(tmp_path: Path) -> None:
    whole, again = model_of(Mixed), model_of(Mixed)
    run(whole, lpft_sd(), _new(tmp_path, "whole"))
    folder = _new(tmp_path, "killed")
    for at in (2, 3):
        with pytest.raises(KeyboardInterrupt):
            run(model_of(Mixed), lpft_sd(), folder, watch=Watch(lambda e, n, at=at: (e, n) == ("epoch", at)))
    newest = max(folder.glob("checkpoint-*.pt"))
    newest.write_bytes(newest.read_bytes()[:-100])
    watch = Watch()

    run(again, lpft_sd(), folder, watch=watch)

    assert moved(again, weights(whole)) == set()
    assert watch.notes[0].startswith(f"{newest.name} is damaged")
    assert len(list(folder.iterdir())) == 2


@dataclass
class NumPyRates(Recipe):
    """Turns the rates of a phase into NumPy's numbers."""

    def optimizer(self, groups: list[dict[str, Any]], phase: Phase, gradients: Gradients) -> torch.optim.Optimizer:
        for group in groups if phase.name == "second" else ():
            group["lr"] = np.float64(group["lr"])
        return super().optimizer(groups, phase, gradients)


def test_a_phase_whose_checkpoints_could_not_be_loaded_stops_at_its_first(tmp_path: Path) -> None:
    method = NumPyRates([phase({"head": 0.05}), phase({"head": 0.05}, name="second")])
    watch = Watch()

    with pytest.raises(PluginError, match=r"a checkpoint of this run could not be loaded"):
        run(model_of(Flat), method, tmp_path, watch=watch)

    assert watch.phases_ended == 1 and watch.epochs[-1]["epoch"] == 1
    left = Checkpoints(tmp_path, writes=False, note=print).newest()
    assert left is not None and len(left["reports"]) == 1, "those of the first phase"


def test_the_best_weights_of_a_checkpoint_go_to_the_device_of_the_run(tmp_path: Path) -> None:
    """A checkpoint is loaded on the CPU; `finish` compares them with the model's, which are on a GPU."""
    train_source, val_source = sources()
    run(model_of(Flat), Recipe([phase({"head": 0.05})]), tmp_path, (train_source, val_source))
    files = Checkpoints(tmp_path, writes=False, note=print)
    state = files.newest()
    assert state is not None
    report = PhaseReport(**state["reports"][-1])
    model = model_of(Flat)
    again = PhaseRun(model, Recipe([]), phase({"head": 0.05}), ALONE, "float32", 0, model.changed_keys({"head"}))
    again.begin(train_source, val_source, [report], Watch(), files, None)
    again.world = replace(ALONE, device=torch.device("meta"))

    again.restore(state)

    assert {key: value.device.type for key, value in again.best.items()} == {"head.weight": "meta", "head.bias": "meta"}


def test_a_run_whose_frozen_part_came_out_otherwise_is_not_resumed(tmp_path: Path) -> None:
    """As where `prepare` computes it, by an SVD for instance, and the run goes on on another machine."""
    method = Recipe([phase({"head": 1e-2}, name="probe"), phase({"backbone.stem": 1e-2, "head": 1e-2}, name="stem")])
    with pytest.raises(KeyboardInterrupt):
        run(model_of(Mixed), method, tmp_path, watch=Watch(lambda *event: event == ("epoch", 5)))
    other = model_of(Mixed)
    with torch.no_grad():
        other.backbone.get_parameter("blocks.1.0.weight")[0, 0, 0] *= 1 + 1e-6

    with pytest.raises(BenchError, match=r"^backbone\.blocks\.1\.0\.weight, which phase 'stem' does not train, is not"):
        run(other, method, tmp_path)
    run(model_of(Mixed), method, tmp_path)


def test_a_finished_training_resumes_to_its_end(tmp_path: Path) -> None:
    whole, again = model_of(Mixed), model_of(Mixed)
    run(whole, lpft_sd(), tmp_path)
    watch = Watch()

    run(again, lpft_sd(), tmp_path, watch=watch)

    assert watch.steps == 0 and moved(again, weights(whole)) == set()


def test_a_checkpoint_holds_what_has_changed_and_no_more(tmp_path: Path) -> None:
    model = model_of(small_net1d)
    probe = LinearProbe(probe_epochs=1).phases(())[0]

    run(model, Recipe([replace(probe, batch_size=11)]), tmp_path)

    state = Checkpoints(tmp_path, writes=False, note=print).newest()
    assert state is not None and set(state["model"]) == set(state["best"]) == {"head.weight", "head.bias"}


@pytest.mark.parametrize("method", [LayerwiseDecay(finetune_epochs=2), GradualUnfreezing(finetune_epochs=1)])
def test_layer_groups_of_tied_weights_are_trained_and_resumed(method: Method, tmp_path: Path) -> None:
    whole, again = model_of(Tied), model_of(Tied)
    before = weights(whole)
    run(whole, method, _new(tmp_path, "whole"))
    folder = _new(tmp_path, "killed")
    with pytest.raises(KeyboardInterrupt):
        run(model_of(Tied), method, folder, watch=Watch(lambda *event: event == ("step", 2)), minutes=0)

    run(again, method, folder)

    assert {f"backbone.blocks.{depth}.0.weight" for depth in range(4)} < moved(whole, before)
    assert moved(again, weights(whole)) == set()


@pytest.mark.parametrize(("faster", "chosen"), [(True, "bf16"), (False, "float32")])
def test_precision_is_what_was_asked_for_or_what_there_is(
    faster: bool, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu = torch.device("cpu")
    assert resolve_precision("auto", cpu) in ("bf16", "float32")
    monkeypatch.setattr("bench.training.precision._is_faster_in_bf16", lambda device: faster)
    assert resolve_precision("auto", cpu) == chosen
    assert resolve_precision("float64", cpu) == "float64"
    with pytest.raises(BenchError, match="unknown precision 'fp16'; expected auto, float32, bf16 or float64"):
        resolve_precision("fp16", cpu)


class Overflowing(Flat):
    """Its features of a window are infinite for records that are large; its weights are finite."""

    signal_spec = SignalSpec(100, "none", window_s=0.2)

    def forward(self, signals: Tensor) -> Tensor:
        return torch.exp(signals.mean(-1) * 1e3)


def test_a_frozen_backbone_whose_features_are_not_finite_is_named_and_no_learning_rate(tmp_path: Path) -> None:
    values = np.ones((30, 12, 32), dtype=np.int16)
    scale = np.zeros(30, dtype=np.float32)
    scale[4] = 1.0
    labels = (torch.arange(60).view(30, 2) % 3 == 0).float()
    signals = PreparedSignals(Overflowing.signal_spec, 100, Scaling(), {}, 5 + np.arange(30), values, scale)
    source = SignalSource(signals, np.arange(30), labels, torch.float32)
    model = Classifier(Overflowing(), 2)

    with pytest.raises(DataError, match="NaN or infinite features for 1 of 30 records, the first ecg_id 9; try"):
        run(model, Recipe([phase({"head": 1e-3})]), tmp_path, (source, source))


def test_patience_stops_a_phase_that_gets_no_better(tmp_path: Path) -> None:
    model, data = turning()

    watch = Watch()
    (report,) = run(model, Recipe([phase({"head": 0.05}, epochs=9, patience=2)]), tmp_path, data, watch)

    assert (report.best_epoch, len(report.train_loss)) == (1, 3)
    assert watch.phases_ended == 1


def test_no_weight_decay_spares_what_it_names(tmp_path: Path) -> None:
    """By steps that do nothing but decay: the rate is 1, the gradient vanishes."""

    class Decay(Recipe):
        def optimizer(self, groups: list[dict[str, Any]], phase: Phase, gradients: Gradients) -> torch.optim.Optimizer:
            return torch.optim.SGD(groups, weight_decay=phase.weight_decay)

        def loss(self, batch: Batch) -> Tensor:
            return batch.logits().sum() * 0.0

    model = model_of(Mixed)
    before = weights(model)
    spared = phase(
        {"backbone": 1.0, "head": 1.0},
        epochs=1,
        batch_size=64,
        weight_decay=0.5,
        no_weight_decay=("1d", "head.*"),
        selection="last",
    )

    run(model, Decay([spared]), tmp_path)

    names = {name for name, p in model.named_parameters() if p.dim() > 1 and not name.startswith("head")}
    assert {key for key in moved(model, before) if "running" not in key and "num_batches" not in key} == names
    torch.testing.assert_close(model.backbone.stem[0].weight, before["backbone.stem.0.weight"] / 2)


def test_mean_gradients_are_those_of_all_training_records(tmp_path: Path) -> None:
    found: dict[str, Tensor] = {}

    class Asks(Recipe):
        def optimizer(self, groups: list[dict[str, Any]], phase: Phase, gradients: Gradients) -> torch.optim.Optimizer:
            found.update(gradients())
            return super().optimizer(groups, phase, gradients)

    model, (train_source, val_source) = model_of(Mixed), sources()
    run(model, Asks([phase({"backbone": 1e-9, "head": 1e-9}, epochs=1)]), tmp_path, (train_source, val_source))

    whole = model_of(Mixed).eval()
    logits = whole(train_source.features[:, 0])
    nn.functional.binary_cross_entropy_with_logits(logits, train_source.labels).backward()
    for name, parameter in whole.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-4, atol=1e-6)


def test_batch_norm_statistics_move_in_the_first_call_of_a_closure_alone(tmp_path: Path) -> None:
    class Twice(Recipe):
        def optimizer_step(self, optimizer: torch.optim.Optimizer, closure: Callable[[], Tensor]) -> None:
            first, second = closure(), closure()
            assert torch.equal(first, second), "the same masks"
            optimizer.step()

    models = [model_of(Mixed), model_of(Mixed)]
    declared = [phase({"backbone": 1e-2, "head": 1e-2}, drop_path_rate=0.5)]
    for model, method in zip(models, (Recipe(declared), Twice(declared)), strict=True):
        (tmp_path / type(method).__name__).mkdir()
        run(model, method, tmp_path / type(method).__name__)

    assert moved(models[0], weights(models[1])) == set()


@pytest.mark.parametrize(("wrong", "num_epochs"), [(0, 0), (2, 0), (4, 1)])
def test_labels_outside_0_and_1_are_refused_in_any_step_and_not_saved(
    wrong: int, num_epochs: int, tmp_path: Path
) -> None:
    """An epoch has four steps."""

    class Doubles(Recipe):
        def augment(self, batch: SignalBatch) -> tuple[Tensor, Tensor]:
            return batch.signals, batch.labels * (2 if batch.step == wrong else 1)

    with pytest.raises(PluginError, match=r"augment\(\) returns labels outside \[0, 1\]"):
        run(model_of(Mixed), Doubles([phase({"head": 1e-2})]), tmp_path)

    state = Checkpoints(tmp_path, writes=False, note=print).newest()
    assert len(state["reports"][0]["train_loss"] if state else []) == num_epochs


class NewHead(Recipe):
    """A new head at the end of each phase, or of the first alone."""

    only = ""

    def finish(self, model: Classifier, judge: Judge) -> None:
        if self.only in ("", judge.phase.name):
            model.head.reset_parameters()


class NewHeadOnce(NewHead):
    only = "probe"


def test_a_finish_that_alters_the_last_phase_unjudged_is_noted(tmp_path: Path) -> None:
    phases = [phase({"head": 1e-2}, name="probe"), phase({"backbone": 1e-2, "head": 1e-2}, name="finetune")]
    notes = {}
    for kind in (NewHead, NewHeadOnce):
        watch = Watch()
        reports = run(model_of(Mixed), kind(phases), _new(tmp_path, kind.__name__), watch=watch)
        notes[kind] = [note for note in watch.notes if note.startswith("finish()")]
        selected, finished = reports[1].val_macro_auroc[reports[1].best_epoch - 1], reports[1].finished_val_macro_auroc

        if kind is NewHead:
            text = f"fold-9 macro AUROC {selected:.4f} becomes {finished:.4f}; judge.phase tells the phases apart"
            assert len(notes[kind]) == 1 and notes[kind][0].endswith(text)
            assert "the weights that leave phase finetune, the last, without judge.score" in notes[kind][0]
    assert notes[NewHeadOnce] == []


@pytest.mark.parametrize("average", [EMA(0.9), SWA(0.5)], ids=str)
def test_the_average_leaves_the_phase(average: EMA | SWA, tmp_path: Path) -> None:
    """Its score is what the report says, and its weights are others than those of the plain run."""
    plain, averaged = model_of(Mixed), model_of(Mixed)
    parts = {"backbone": 1e-2, "head": 1e-2}
    for model, rule, name in ((plain, None, "plain"), (averaged, average, "averaged")):
        (tmp_path / name).mkdir()
        (report,) = run(model, Recipe([phase(parts, average=rule, selection="last")]), tmp_path / name)

    assert not torch.equal(plain.head.weight, averaged.head.weight)
    still = Recipe([phase({"head": 1e-12}, epochs=1, selection="last")])
    (tmp_path / "still").mkdir()
    (again,) = run(averaged, still, tmp_path / "still")
    assert again.val_loss[0] == pytest.approx(report.val_loss[-1], abs=1e-6)


@pytest.mark.parametrize(
    "method",
    [
        Recipe([phase({"head": 1.0}, epochs=4)]),
        Recipe([phase({"backbone": 1e-2, "head": 1e-2}, average=EMA(0.9), selection="last")]),
        Recipe([phase({"backbone": 1e-2, "head": 1e-2}, average=SWA(0.5))]),
        NewHead([phase({"backbone": 1e-2, "head": 1e-2})]),
        lpft_sd(),
    ],
    ids=["best", "ema", "swa", "finish", "lpft-sd"],
)
def test_the_logits_on_fold_9_are_those_of_the_final_weights(method: Method, tmp_path: Path) -> None:
    model, data = model_of(Mixed), sources()

    _, logits = run_with_logits(model, method, tmp_path, data)

    assert torch.equal(logits, predict(model, data[1], "max", ALONE, "float32"))
    assert logits.std(0).min() > 0.01, "the same for all records tells nothing"


def test_epochs_before_an_average_are_never_selected(tmp_path: Path) -> None:
    (report,) = run(model_of(Mixed), Recipe([phase({"head": 1.0}, epochs=4, average=SWA(0.5))]), tmp_path)

    assert report.best_epoch in (3, 4)


@dataclass
class Views(OwnLoss):
    """Counts how often each record is seen, and checks that what `augment` returned belongs to it."""

    bad: bool = False

    def augment(self, batch: SignalBatch) -> Augmented:
        assert len(batch.rows) == len(batch.signals)
        extra = {"doubled": 2 * batch.signals.double(), "rows": batch.rows.clone(), "names": [0] if self.bad else None}
        batch.rows.zero_()
        return batch.signals + 1, batch.labels, {name: value for name, value in extra.items() if value is not None}

    def loss(self, batch: Batch) -> Tensor:
        train, _ = sources()
        assert torch.equal(batch.labels, train.labels[batch.rows])
        assert torch.equal(batch.signals, train.features[batch.rows, 0] + 1)
        assert torch.equal(batch.extra["doubled"], 2 * train.features[batch.rows, 0])
        assert torch.equal(batch.extra["rows"], batch.rows)
        assert torch.equal(batch.gather(batch.labels), batch.labels)
        counts = batch.state.setdefault("counts", torch.zeros(batch.num_records))
        counts[batch.gather(batch.rows)] += 1
        assert int(counts.sum()) == batch.step // 4 * 40 + [11, 22, 33, 40][batch.step % 4]
        return super().loss(batch)


def test_a_loss_gets_the_rows_of_its_records_and_what_augment_made_of_them(tmp_path: Path) -> None:
    run(model_of(Mixed), Views([phase({"backbone": 0.01, "head": 0.01})]), tmp_path)


def test_a_third_value_of_augment_that_is_no_tensor_of_records_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        PluginError, match=r"augment\(\) returns a list as 'names' of its third value, expected a tensor"
    ):
        run(model_of(Mixed), Views([phase({"backbone": 0.01, "head": 0.01})], bad=True), tmp_path)


def test_gathered_values_are_those_of_the_ranks_records_in_a_type_that_an_empty_rank_has_too(tmp_path: Path) -> None:
    values = torch.tensor([[0.5], [2.0]], requires_grad=True)

    gathered = gather_batch(ALONE, 2, 2, values)

    assert torch.equal(gathered, values) and not gathered.requires_grad
    kinds = {
        kind: gather_batch(ALONE, 2, 2, values.to(kind)).dtype for kind in (torch.bfloat16, torch.float64, torch.int64)
    }
    assert kinds == {torch.bfloat16: torch.float32, torch.float64: torch.float64, torch.int64: torch.int64}
    with pytest.raises(PluginError, match=r"batch\.gather\(\) was given 1 rows where this rank has 2 of the batch"):
        gather_batch(ALONE, 2, 2, values[:1])


@pytest.mark.parametrize("returned", [{}, {"weights": torch.zeros(11)}])
def test_a_third_value_may_be_empty_and_types_of_a_batch_are_its_own(returned: dict[str, Tensor]) -> None:
    signals, labels, rows = torch.zeros(11, 12, 32), torch.zeros(11, 3), torch.arange(11)
    further = {**returned, "shift": torch.arange(11), "kept": torch.ones(11, 2, dtype=torch.bool)}

    inputs = augmented((signals.double(), labels, further), signals, labels, rows)

    assert inputs.x.dtype == torch.float32
    kinds = {"weights": torch.float32, "shift": torch.int64, "kept": torch.bool}
    assert {name: value.dtype for name, value in inputs.extra.items()} == {name: kinds[name] for name in further}
    for wrong in ((signals, labels, [signals]), (signals, labels, {}, {})):
        with pytest.raises(
            PluginError, match=r"must return signals and labels, and if need be a dict of further tensors"
        ):
            augmented(wrong, signals, labels, rows)  # type: ignore[arg-type]
