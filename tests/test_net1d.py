"""Net1D: memory layouts and weight gradients by instruction set compute the same."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from baselines.net1d import Conv1d, Net1D, predicts_plain, weight_passes
from baselines.processors import has_avx512
from bench.plugin import SignalSpec

CPU = torch.device("cpu")


def small() -> Net1D:
    """Two stages, with an odd length on the way and channels to widen."""
    torch.manual_seed(0)
    return Net1D(SignalSpec(100, "zscore"), stem=16, widths=(32, 48), depths=(2, 2)).eval()


def layouts(model: nn.Module, signals: Tensor) -> tuple[Tensor, set[bool]]:
    """Return features, and whether time came last in memory in the outputs of convolutions."""
    seen = set[bool]()

    def see(_: nn.Module, __: object, output: Tensor) -> None:
        seen.add(output.is_contiguous())

    hooks = [module.register_forward_hook(see) for module in model.modules() if isinstance(module, Conv1d)]
    features = model(signals)
    for hook in hooks:
        hook.remove()
    return features.detach(), seen


@pytest.mark.parametrize("length", [250, 249])
def test_predicting_with_time_last_equals_training_with_channels_last(length: int) -> None:
    model, signals = small(), torch.randn(3, 12, length)
    trained, in_training = layouts(model, signals)
    with torch.no_grad():
        predicted, in_prediction = layouts(model, signals)
    assert (in_training, in_prediction) == ({False}, {True}), "one layout through the whole network"
    torch.testing.assert_close(predicted, trained, rtol=1e-5, atol=1e-6)


def test_time_is_last_only_in_float32_predictions_on_a_cpu() -> None:
    assert not predicts_plain(CPU)
    with torch.no_grad():
        assert predicts_plain(CPU)
        assert not predicts_plain(torch.device("cuda"))
        with torch.autocast("cpu", torch.bfloat16):
            assert not predicts_plain(CPU)


@pytest.mark.parametrize(
    ("capability", "of_stride_1", "of_stride_2"), [("DEFAULT", 1, 2), ("AVX2", 1, 2), ("AVX512", 2, 2)]
)
def test_passes_follow_the_processor(capability: str, of_stride_1: int, of_stride_2: int) -> None:
    avx512 = has_avx512(capability)
    assert (weight_passes(16, 1, avx512), weight_passes(16, 2, avx512)) == (of_stride_1, of_stride_2)
    assert weight_passes(1, 1, avx512) == 1


GRADIENTS = """
import sys
import torch
from baselines.net1d import Conv1d
torch.manual_seed(0)
gradients = []
for kernel_size, stride, groups in ((1, 1, 1), (16, 1, 2), (16, 2, 2)):
    conv, x = Conv1d(32, 32, kernel_size, stride, groups=groups), torch.randn(2, 32, 51, requires_grad=True)
    conv(x).square().sum().backward()
    gradients += [x.grad, conv.weight.grad, conv.bias.grad]
torch.save((torch.backends.cpu.get_cpu_capability(), gradients), sys.argv[1])
"""


@pytest.mark.slow
@pytest.mark.skipif(not has_avx512(), reason="no AVX-512 to compare AVX2 with on this processor")
def test_gradients_with_avx2_equal_those_with_avx512(tmp_path: Path) -> None:
    """Both ways in processes of their own, because torch reads these variables when it starts."""
    results = []
    for name, limits in (("avx512", {}), ("avx2", {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"})):
        file = tmp_path / name
        subprocess.run([sys.executable, "-c", GRADIENTS, str(file)], env=os.environ | limits, check=True)
        results.append(torch.load(file))
    (wide, expected), (narrow, gradients) = results
    assert (wide, narrow) == ("AVX512", "AVX2")
    for gradient, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-4, atol=1e-4)
