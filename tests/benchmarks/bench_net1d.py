"""A training step of ECGFounder's Net1D against the formulation that its authors published."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from baselines.net1d import ECGFounder
from bench.training.model import Classifier

SAMPLES = 5000
RECORDS = {"cpu": 32, "cuda": 256}
SIDE = {"cpu": 2048, "cuda": 8192}
"""Of the matrices whose product tells how fast a device is."""
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]


class PlainConv(nn.Module):
    """Pads a copy of its input, whatever the padding is, and convolves [record, channel, time]."""

    def __init__(self, conv: nn.Conv1d) -> None:
        super().__init__()
        self.conv = nn.Conv1d(conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, groups=conv.groups)

    def forward(self, x: Tensor) -> Tensor:
        (kernel,), (stride,), length = self.conv.kernel_size, self.conv.stride, x.shape[-1]
        total = max(0, ((length + stride - 1) // stride - 1) * stride + kernel - length)
        return self.conv(F.pad(x, (total // 2, total - total // 2), "constant", 0))


def swish(x: Tensor) -> Tensor:
    """As published: a product of its own."""
    return x * torch.sigmoid(x)


class PlainBlock(nn.Module):
    """The published block's operations one by one, with the parameters of ours."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3 = (PlainConv(one.conv) for one in (block.conv1, block.conv2, block.conv3))
        self.se_fc1, self.se_fc2 = (
            nn.Linear(one.in_features, one.out_features) for one in (block.se_fc1, block.se_fc2)
        )
        self.stride, self.first, self.widening = block.stride, block.first, block.widening

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(x if self.first else swish(x))
        out = self.conv3(swish(self.conv2(swish(out))))
        scale = torch.sigmoid(self.se_fc2(swish(self.se_fc1(out.mean(-1)))))
        out = torch.einsum("abc,ab->abc", out, scale)
        if self.stride > 1:
            x = F.max_pool1d(F.pad(x, ((self.stride - 1) // 2, self.stride // 2), "constant", 0), self.stride)
        if self.widening:
            before = self.widening // 2
            x = F.pad(x.transpose(-1, -2), (before, self.widening - before), "constant", 0).transpose(-1, -2)
        out += x
        return out


class PlainStage(nn.Module):
    """Blocks in a row."""

    def __init__(self, stage: Any) -> None:
        super().__init__()
        self.block_list = nn.ModuleList(PlainBlock(block) for block in stage.block_list)


class PlainNet1D(nn.Module):
    """The published network, with its head."""

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.first_conv = PlainConv(model.backbone.first_conv.conv)
        self.stage_list = nn.ModuleList(PlainStage(stage) for stage in model.backbone.stage_list)
        self.dense = nn.Linear(model.head.in_features, model.head.out_features)
        ours = {key.removeprefix("backbone.").replace("head.", "dense."): v for key, v in model.state_dict().items()}
        left = self.load_state_dict(ours, strict=False)
        assert not left.missing_keys and all("bn" in key for key in left.unexpected_keys)

    def forward(self, x: Tensor) -> Tensor:
        x = swish(self.first_conv(x))
        for stage in self.stage_list:
            for block in stage.block_list:
                x = block(x)
        return self.dense(x.mean(-1))


def spelled(device: str) -> str:
    return f"{RECORDS[device]} records of 12 x {SAMPLES}" + (" on a GPU" if device == "cuda" else "")


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("ours_in", "theirs_in", "goal"), [("bf16", "float32", "3"), ("bf16", "bf16", "1.4"), ("float32", "float32", "1")]
)
def test_training_step(compare: Any, stepper: Any, ours_in: str, theirs_in: str, goal: str, device: str) -> None:
    torch.manual_seed(0)
    model = Classifier(ECGFounder(), 5)
    plain = PlainNet1D(model)
    with torch.no_grad():
        few = torch.randn(2, 12, 999)
        torch.testing.assert_close(model(few), plain(few), rtol=0, atol=1e-6)
    ours = stepper(model.to(device), RECORDS[device], SAMPLES, bf16=ours_in == "bf16")
    theirs = stepper(plain.to(device), RECORDS[device], SAMPLES, bf16=theirs_in == "bf16", fused=False)

    compare(
        f"Net1D training step in {ours_in}, {spelled(device)}",
        ours,
        f"published formulation in {theirs_in}",
        theirs,
        rounds=4,
        goal=goal,
    )
    tolerance = 1e-5 if device == "cpu" and ours_in == theirs_in == "float32" else 2e-3
    assert abs(float(ours() - theirs())) < tolerance, "after the same number of steps both have the same loss"


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("kind", "goal"), [("bf16", ""), ("float32", "1.3")])
def test_inference(compare: Any, device: str, kind: str, goal: str) -> None:
    torch.manual_seed(0)
    model = Classifier(ECGFounder(), 5)
    plain = PlainNet1D(model).to(device).eval()
    model.to(device).eval()
    signals, bf16 = torch.randn(RECORDS[device], 12, SAMPLES, device=device), kind == "bf16"

    def predicting(module: nn.Module, bf16: bool) -> Tensor:
        with torch.no_grad(), torch.autocast(device, torch.bfloat16, enabled=bf16):
            return module(signals).float().cpu()  # type: ignore[no-any-return]

    torch.testing.assert_close(predicting(model, bf16), predicting(plain, False), rtol=0, atol=2e-2 if bf16 else 1e-4)
    compare(
        f"Net1D's predictions in {kind}, {spelled(device)}",
        partial(predicting, model, bf16),
        "published formulation in float32",
        partial(predicting, plain, False),
        rounds=4,
        goal=goal,
    )


PRODUCTS = {"aten.mm", "aten.addmm", "aten.convolution", "aten.convolution_backward"}
ACTIVATIONS = {"aten.silu", "aten.silu_backward"}


class Recorded(TorchDispatchMode):
    """Keeps the operations of some kinds that are computed within, to be computed again."""

    def __init__(self, kinds: set[str]) -> None:
        super().__init__()
        self.kinds = kinds
        self.calls: list[Callable[[], object]] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if str(function.overloadpacket) in self.kinds:
            self.calls.append(partial(function, *args, **(kwargs or {})))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("kinds", "words"),
    [
        (PRODUCTS, "its matrix products and convolutions alone"),
        (PRODUCTS | ACTIVATIONS, "these and its activations, which is exponentials, alone"),
    ],
)
def test_what_is_left_is_kernels(compare: Any, stepper: Any, kinds: set[str], words: str) -> None:
    """The step against what oneDNN and the processor's vector units compute in it."""
    torch.manual_seed(0)
    step = stepper(Classifier(ECGFounder(), 5), RECORDS["cpu"], SAMPLES)
    with Recorded(kinds) as recorded:
        step()
    assert len(recorded.calls) > 3 * 60  # 62 convolutions, forwards and twice backwards

    def kernels() -> None:
        with torch.no_grad():
            for call in recorded.calls:
                call()

    compare(f"Net1D training step in bf16, {spelled('cpu')}", step, words, kernels, rounds=4)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", ["bf16", "float32"])
def test_what_the_processor_could_do(compare: Any, stepper: Any, kind: str, device: str) -> None:
    """The step against its multiplications and additions done as large matrix products, and nothing else."""
    torch.manual_seed(0)
    model = Classifier(ECGFounder(), 5).to(device)
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        model(torch.randn(1, 12, SAMPLES, device=device))
    # each product has two gradients, but the signals need none
    of_stem = sum(counted.get_flop_counts()["Classifier.backbone.first_conv"].values())
    operations = RECORDS[device] * (3 * counted.get_total_flops() - of_stem)
    square = torch.randn(
        SIDE[device], SIDE[device], dtype=torch.bfloat16 if kind == "bf16" else torch.float32, device=device
    )

    def multiply() -> None:
        square @ square
        if device == "cuda":
            torch.cuda.synchronize()

    compare(
        f"Net1D training step in {kind}, {spelled(device)}",
        stepper(model, RECORDS[device], SAMPLES, bf16=kind == "bf16"),
        f"its operations as {kind} products of {SIDE[device]} x {SIDE[device]} matrices",
        multiply,
        rounds=4,
        scale=operations / (2 * SIDE[device] ** 3),
    )
