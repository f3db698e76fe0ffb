"""Each audit lets right code pass and names what would go unseen; the methods that trip them are test_door.py's."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.errors import BenchError, PluginError
from bench.plugin import Backbone, Batch, Classifier, DropPath, Method, Phase, SignalSpec, Start
from bench.training.audit import Frozen, NoState, Untouched, check_optimizer, check_state, one_step, prepare
from bench.training.loop import rehearse

START = Start("random", 10, (3,), ("MI",))
HEAD = Phase(name="probe", learning_rates={"head": 0.1}, epochs=1, weight_decay=0.01)


class Small(Backbone):
    """A convolution, batch norm and two residual blocks."""

    signal_spec = SignalSpec(100, "none")
    feature_dim = 4

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv1d(12, 4, 1), nn.BatchNorm1d(4)
        self.paths = nn.ModuleList(DropPath() for _ in range(2))

    def forward(self, signals: Tensor) -> Tensor:
        x = self.norm(self.stem(signals))
        for path in self.paths:
            x = x + path(x)
        return x.mean(-1)


@dataclass(frozen=True)
class Recipe(Method):
    """Hyper-parameters, one of them a list, and what `prepare` is to do."""

    lr: float = 0.1
    parts: list[str] = field(default_factory=lambda: ["head"])
    change: Callable[[Classifier], object] = lambda model: None

    def prepare(self, model: Classifier, init: Start) -> None:
        self.change(model)


def model() -> Classifier:
    return Classifier(Small(), 1)


@pytest.mark.parametrize(
    "change",
    [
        lambda method: object.__setattr__(method, "lr", 0.2),
        lambda method: object.__setattr__(method, "step", 1),
        lambda method: method.parts.append("backbone"),
        lambda method: setattr(type(method), "steps", 1),
    ],
    ids=["field", "new attribute", "list in place", "class"],
)
def test_a_method_that_changes_itself_is_named(change: Callable[[Method], None]) -> None:
    @dataclass(frozen=True)
    class Own(Recipe):
        pass

    method = Own()
    state = NoState(method)
    state.check("loss")

    change(method)

    with pytest.raises(PluginError, match=r"Own\.loss\(\) sets self\.(lr|step|parts|steps), which a resumed run"):
        state.check("loss")


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (lambda model: None, True),
        (lambda model: nn.init.zeros_(model.backbone.stem.weight), True),
        (lambda model: setattr(model, "head", nn.Linear(4, 1)), True),
        (lambda model: setattr(model.backbone, "norm", nn.Identity()), False),
        (lambda model: model.backbone.stem.register_forward_hook(lambda *_: None), False),
        (lambda model: setattr(model.backbone.norm, "momentum", 0.5), False),
    ],
    ids=["nothing", "weights", "head", "layer", "hook", "number"],
)
def test_prepare_says_whether_the_backbone_is_still_the_same_but_for_its_weights(
    change: Callable[[Classifier], object], same: bool
) -> None:
    assert prepare(model(), Recipe(change=change), START).same_backbone is same


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda model: setattr(model, "teacher", nn.Linear(1, 1)), "puts 'teacher' beside backbone and head"),
        (lambda model: setattr(model.backbone, "kept", [nn.Linear(1, 1)]), "hides a module in backbone.kept"),
        (lambda model: setattr(model.backbone, "kept", {"a": nn.Linear(1, 1)}), "hides a module in backbone.kept"),
        (lambda model: setattr(model.backbone, "more", DropPath()), "3 DropPaths where there were 2"),
        (lambda model: setattr(model.backbone.paths[0], "drop_prob", 0.1), "sets rates of stochastic depth"),
        (lambda model: model.backbone.stem.half(), "makes weights torch.float16"),
        (lambda model: torch.set_default_dtype(torch.float64), "sets torch's default type to torch.float64"),
    ],
    ids=["beside", "in a list", "in a dict", "residual block", "rates", "half precision", "default type"],
)
def test_what_prepare_must_not_do_is_refused(change: Callable[[Classifier], object], named: str) -> None:
    with pytest.raises(PluginError, match=named):
        prepare(model(), Recipe(change=change), START)
    assert torch.get_default_dtype() == torch.float32


class Wrapped(nn.Module):
    """A layer and what is put beside it."""

    def __init__(self, layer: nn.Module, **beside: nn.Module | nn.Parameter) -> None:
        super().__init__()
        self.layer = layer
        for name, value in beside.items():
            setattr(self, name, value)


def wrap(**beside: nn.Module | nn.Parameter) -> Callable[[Classifier], None]:
    def change(adapted: Classifier) -> None:
        adapted.backbone.stem = Wrapped(adapted.backbone.stem, **copy.deepcopy(beside))

    return change


def both(adapted: Classifier) -> None:
    """Weight normalisation: the weight becomes two new parameters."""
    nn.utils.parametrizations.weight_norm(adapted.backbone.stem)


SCALE, DROP = nn.Parameter(torch.ones(1)), nn.Dropout(0.1)


@pytest.mark.parametrize(
    ("change", "parts", "named"),
    [
        (wrap(scale=SCALE), ["head"], r"adds backbone\.stem\.scale, which no phase trains"),
        (wrap(scale=SCALE), ["backbone.stem"], None),
        (wrap(scale=nn.Parameter(torch.ones(1), requires_grad=False)), ["head"], None),
        (both, ["head"], r"adds backbone\.stem\.parametrizations\.weight\.original0, which no phase trains"),
        (both, ["backbone.stem"], None),
        (wrap(drop=DROP, scale=SCALE), ["backbone.stem.scale"], r"a Dropout at backbone\.stem\.drop, which rests"),
        (wrap(drop=DROP, scale=SCALE), ["backbone.stem"], None),
        (wrap(drop=nn.Dropout(0.0)), ["head"], None),
        (wrap(drop=nn.Dropout1d(0.1)), ["head"], r"a Dropout1d at backbone\.stem\.drop, which rests"),
        (wrap(norm=nn.BatchNorm1d(4, affine=False)), ["head"], r"a BatchNorm1d at backbone\.stem\.norm, which rests"),
        (wrap(norm=nn.BatchNorm1d(4)), ["backbone.*.weight", "backbone.*.bias"], "a BatchNorm1d at backbone"),
        (wrap(norm=nn.BatchNorm1d(4).requires_grad_(False)), ["head"], None),
        (wrap(norm=nn.BatchNorm1d(4)), ["backbone.*.norm"], None),
        (wrap(rnn=nn.GRU(4, 4, 2, dropout=0.1)), ["backbone.*.rnn.*_l?"], r"a GRU at backbone\.stem\.rnn, which rests"),
    ],
)
def test_what_prepare_adds_is_used_by_a_phase(
    change: Callable[[Classifier], object], parts: list[str], named: str | None
) -> None:
    adapted = model()
    prepared = prepare(adapted, Recipe(change=change), START)
    rates = dict.fromkeys(["head", *parts], 0.1)
    phases = [replace(HEAD, name="first", learning_rates=rates), HEAD]

    if named is None:
        rehearse(adapted, phases, prepared)
        return
    with pytest.raises(PluginError, match=named):
        rehearse(adapted, phases, prepared)


def test_dropout_that_the_backbone_came_with_may_rest_unless_its_rate_is_set() -> None:
    adapted = model()
    adapted.backbone.stem = nn.Sequential(adapted.backbone.stem, nn.Dropout(0.1))

    assert prepare(adapted, Recipe(), START).resting == ()
    change = lambda adapted: setattr(adapted.backbone.stem[1], "p", 0.2)
    assert prepare(adapted, Recipe(change=change), START).resting == ("backbone.stem.1",)


def trained(number: int = 2) -> dict[str, nn.Parameter]:
    return {f"head.{i}": nn.Parameter(torch.ones(2)) for i in range(number)}


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda ps: "Adam", "returns a str"),
        (lambda ps: torch.optim.SGD(ps[:1], lr=0.1), r"takes head\.1 0 times"),
        (lambda ps: torch.optim.SGD([*ps, nn.Parameter(torch.ones(1))], lr=0.1), "1 parameters that the phase does"),
        (
            lambda ps: torch.optim.AdamW(ps, lr=0.1, weight_decay=0.5),
            "decays weights by 0.5 and the phase declares",
        ),
        (
            lambda ps: torch.optim.AdamW(ps, lr=0.1, weight_decay=0.0),
            r"by 0 and the phase declares 0\.01 for head\.0",
        ),
        (lambda ps: with_schedule(torch.optim.AdamW(ps, lr=0.1)), "brings a learning-rate scheduler"),
        (lambda ps: with_hook(torch.optim.AdamW(ps, lr=0.1)), "registers a step hook"),
    ],
    ids=["a name", "one is missing", "one too many", "decay", "no decay", "scheduler", "hook"],
)
def test_an_optimizer_that_nobody_could_resume_or_record_is_refused(
    make: Callable[[list[nn.Parameter]], Any], named: str
) -> None:
    parameters = trained()

    with pytest.raises(PluginError, match=named):
        check_optimizer(make([*parameters.values()]), Recipe(), HEAD, parameters)


def with_schedule(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    torch.optim.lr_scheduler.StepLR(optimizer, 1)
    return optimizer


def with_hook(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    optimizer.register_step_post_hook(lambda *_: None)
    return optimizer


@pytest.mark.parametrize("make", [torch.optim.AdamW, torch.optim.SGD, torch.optim.Adagrad])
def test_an_optimizer_with_a_group_a_parameter_is_right(make: Callable[..., torch.optim.Optimizer]) -> None:
    parameters = trained(3)
    groups = [{"params": [p], "weight_decay": 0.01 * (i > 0)} for i, p in enumerate(parameters.values())]

    check_optimizer(make(groups, lr=0.1), Recipe(), HEAD, parameters)


def test_weight_decay_is_compared_group_by_group() -> None:
    """A phase that spares all that it trains once was refused, and one that lets a spared parameter decay was not."""
    parameters = trained(2)
    spares_all, spares_first = (replace(HEAD, no_weight_decay=spared) for spared in (("1d",), ("head.0",)))
    first, second = parameters.values()
    plain = [{"params": [first, second], "weight_decay": 0.0}]
    declared = [{"params": [first], "weight_decay": 0.0}, {"params": [second]}]

    check_optimizer(torch.optim.AdamW(plain, lr=0.1, weight_decay=0.01), Recipe(), spares_all, parameters)
    check_optimizer(torch.optim.AdamW(declared, lr=0.1, weight_decay=0.01), Recipe(), spares_first, parameters)
    both = torch.optim.AdamW([first, second], lr=0.1, weight_decay=0.01)
    with pytest.raises(PluginError, match=r"by 0\.01 and the phase declares 0 for head\.0, .* keep the gr"):
        check_optimizer(both, Recipe(), spares_first, parameters)
    check_optimizer(torch.optim.LBFGS([first, second], lr=0.1), Recipe(), spares_first, parameters)


def test_a_step_is_made_by_the_phases_optimizer_at_its_rates() -> None:
    first, second = (torch.optim.SGD(trained().values(), lr=0.1) for _ in range(2))

    with one_step(first, Recipe(), HEAD):
        first.step()
        first.step()
    with pytest.raises(PluginError, match="steps a second optimiser"), one_step(first, Recipe(), HEAD):
        second.step()
    with pytest.raises(PluginError, match=r"does not call optimizer\.step"), one_step(first, Recipe(), HEAD):
        pass
    with pytest.raises(PluginError, match="sets learning rates"), one_step(first, Recipe(), HEAD):
        step_and_halve(first)
    second.step()  # its hook is gone after each


def step_and_halve(optimizer: torch.optim.Optimizer) -> None:
    optimizer.step()
    optimizer.param_groups[0]["lr"] /= 2


def test_a_loss_may_read_and_not_alter() -> None:
    signals, labels = torch.ones(2, 3), torch.zeros(2, 1)
    untouched = Untouched({"batch.signals": [signals], "batch.labels": [labels]})
    _ = signals + 1
    untouched.check(Recipe())

    labels[:1].fill_(1.0)  # a view of it

    with pytest.raises(PluginError, match=r"loss\(\) alters batch\.labels in place"):
        untouched.check(Recipe())


def test_a_frozen_buffer_that_moves_is_named() -> None:
    adapted = model()
    frozen = Frozen(adapted, HEAD)
    frozen.check_same(dict(frozen.before))
    nn.init.ones_(adapted.head.weight)  # type: ignore[arg-type]
    frozen.check()

    adapted.backbone.norm.running_mean[0] = 1.0

    with pytest.raises(PluginError, match=r"backbone\.norm\.running_mean moved in phase 'probe'"):
        frozen.check()


@pytest.mark.parametrize("value", [1, [torch.ones(1)], torch.ones(1, requires_grad=True), None])
def test_state_is_tensors_without_gradient(value: object) -> None:
    check_state({"mean": torch.ones(1)})

    with pytest.raises(PluginError, match=r"batch\.state\['mean'\] must be a tensor without gradient"):
        check_state({"mean": value})


def test_a_method_and_its_loss_know_nothing_of_the_audits() -> None:
    """The hooks that run under an audit are the method's own: the base class passes all of them."""
    state = NoState(method := Recipe())
    method.loss(_batch())
    state.check("loss")


def _batch() -> Batch:
    class Passes:
        def logits(self, x: Tensor, masks: int) -> Tensor:
            return x.sum(1, keepdim=True)

    nothing: dict[str, Any] = {"parameters": {}, "initial_weights": {}, "state": {}, "extra": {}}
    nothing |= {"rows": torch.arange(2), "gather": torch.clone}
    facts: dict[str, Any] = {"step": 0, "num_steps": 1, "num_records": 2, "positives": torch.zeros(1), **nothing}
    return Batch(passes=Passes(), x=torch.ones(2, 3), labels=torch.zeros(2, 1), phase=HEAD, **facts)  # type: ignore[arg-type]


def test_a_frozen_part_that_is_not_that_of_the_checkpoint_is_named() -> None:
    adapted, other = model(), model()
    before = Frozen(adapted, HEAD).before
    other.load_state_dict(adapted.state_dict())
    nn.init.zeros_(other.head.weight)  # type: ignore[arg-type]
    Frozen(other, HEAD).check_same(before)

    nn.init.zeros_(other.backbone.stem.bias)

    with pytest.raises(BenchError, match=r"^backbone\.stem\.bias, which phase 'probe' does not train, is not what"):
        Frozen(other, HEAD).check_same(before)
