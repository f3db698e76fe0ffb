"""Net1D, the architecture of ECGFounder, at its published size and a small one.

Li et al., NEJM AI 2025; code PKUDigitalHealth/ECGFounder, net1d.py (MIT), rewritten here so that the published
checkpoint loads strictly. Differences: no `dense` layer, because the harness adds the head; a DropPath before each
addition. The published network has batch-norm layers that its forward pass never calls; they are kept for the keys of
the checkpoint and never trained. Inside, tensors are [record, time, channel]. In memory channels come last, which on a
CPU trains three times as fast in bf16; only to predict in float32 on a CPU does time come last, see `predicts_plain`.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

import baselines.preprocessing  # noqa: F401 (registers clef)
from baselines.processors import has_avx512
from bench.plugin import Backbone, DropPath, PublishedCheckpoint, SignalSpec, register_backbone

ECGFOUNDER_COMMIT = "d9b1793951b2342f5f7e84f1ac03cd37f8a08724"
"""Commit of its repository on the hub, by six programs of others that name it, as they name hash and size."""
ECGFOUNDER_TERMS: dict[str, Any] = {
    "license": "MIT",
    "pretraining_data": "HEEDB",
    "ptbxl_seen": "no",
    "source": "arXiv 2410.04133, where PTB-XL is an external test set; LICENSE of PKUDigitalHealth/ECGFounder; a "
    "third party's record of the hub's card",
}


class SameConv1d(nn.Module):
    """Convolution [record, time, channel] -> [record, time / stride rounded up, channel'].

    Its `conv` is called as a module, on views [record, channel, time], so it may be hooked and wrapped.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv: nn.Module = Conv1d(in_channels, out_channels, kernel_size, stride, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x.transpose(1, 2)).transpose(1, 2)  # type: ignore[no-any-return]


class Conv1d(nn.Conv1d):
    """Convolution [record, channel, time] -> [record, channel', time / stride rounded up], padded to that.

    An odd padding is longer on the right.
    """

    def forward(self, input: Tensor) -> Tensor:
        return self._convolve(input.transpose(1, 2)).transpose(1, 2)

    def _convolve(self, x: Tensor) -> Tensor:
        (kernel_size,), (stride,), length = self.kernel_size, self.stride, x.shape[1]
        weight, bias, on_cpu = self.weight, self.bias, x.device.type == "cpu"
        if torch.amp.is_autocast_available(x.device.type) and torch.is_autocast_enabled(x.device.type):
            kind = torch.get_autocast_dtype(x.device.type)
            x, weight, bias = x.to(kind), weight.to(kind), None if bias is None else bias.to(kind)
        pointwise = kernel_size == stride == self.groups == 1
        if pointwise and not (on_cpu and x.dtype == torch.float32):
            return F.linear(x, weight.squeeze(-1), bias)  # float32: MKL takes twice as long as oneDNN on some CPUs
        padding, odd = divmod(max(0, (-(-length // stride) - 1) * stride + kernel_size - length), 2)
        convolve = _Conv1d.apply if on_cpu else _conv1d
        return convolve(x, weight, bias, stride, padding, odd, self.groups)


MOST_TAPS = 14
"""Maximum kernel size for which oneDNN computes weight gradients fast with AVX-512; Net1D has 16."""


def weight_passes(kernel_size: int, stride: int, avx512: bool) -> int:
    """Return in how many passes to compute a weight gradient, each with every n-th kernel position.

    For kernels longer than 14, oneDNN computes one matrix product per group, which takes ten times as long as the
    forward pass. Without AVX-512 its kernels for a dilation take longer still: only a stride of 2 is worth two passes.
    """
    passes = -(-kernel_size // MOST_TAPS)
    return passes if avx512 or stride == passes else 1


def predicts_plain(device: torch.device) -> bool:
    """Return whether tensors have time last in memory: to predict in float32 on a CPU.

    There oneDNN takes 1.3 times as long for a grouped convolution whose channels come last (AVX2; the whole prediction
    gains with AVX-512 too). In training the gradient of its input takes twice as long with time last.
    """
    return device.type == "cpu" and not torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")


class _Conv1d(torch.autograd.Function):
    """A convolution with a weight gradient that is fast on CPUs.

    The weight gradient of a long kernel is computed in two passes: even kernel positions, then odd ones. They give the
    same sums with the same rounding. Even and odd positions are used, not the first and last eight, because this copies
    less: with a stride of 2, each pass reads only every other sample.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int, odd: int, groups: int
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding, ctx.odd, ctx.groups = stride, padding, odd, groups
        return _conv1d(x, weight, bias, stride, padding, odd, groups)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        gradient = gradient.contiguous()
        of_x = of_weight = of_bias = None
        avx512 = has_avx512()

        def gradients(
            of: Tensor, taps: Tensor, stride: int, padding: int, dilation: int, wanted: list[bool]
        ) -> tuple[Tensor, Tensor, Tensor]:
            images = _as_image(gradient), _as_image(of), taps.unsqueeze(2)
            sizes = ([len(taps)], (1, stride), (0, padding), (1, dilation), False, (0, 0), ctx.groups)
            return torch.ops.aten.convolution_backward(*images, *sizes, wanted)  # type: ignore[no-any-return]

        if ctx.needs_input_grad[0]:
            padded = x.new_empty(x.shape[0], x.shape[1] + ctx.odd, x.shape[2])
            image, _, _ = gradients(padded, weight, ctx.stride, ctx.padding, 1, [True, False, False])
            of_x = _as_signal(image)[:, : x.shape[1]]
        if any(ctx.needs_input_grad[1:3]) and weight.shape[-1] == ctx.stride == ctx.groups == 1 and not avx512:
            rows = gradient.flatten(0, 1)  # oneDNN takes 1.3 times as long as this matrix product
            of_weight, of_bias = (rows.T @ x.flatten(0, 1)).unsqueeze(-1), rows.sum(0)
        elif any(ctx.needs_input_grad[1:3]):
            of_weight = torch.empty_like(weight)
            parts = weight_passes(weight.shape[-1], ctx.stride, avx512)
            for part in range(parts):
                taps, seen, begin = weight[..., part::parts], x, part - ctx.padding
                stride, dilation, padding = ctx.stride, parts, 0
                if stride == parts:
                    seen, begin = seen[:, begin % parts :: parts], begin // parts
                    stride = dilation = 1
                end = begin + (gradient.shape[1] - 1) * stride + (taps.shape[-1] - 1) * dilation + 1
                before, after = -begin, end - seen.shape[1]
                if before == after >= 0 and seen.shape[1]:
                    padding = before
                else:
                    seen = F.pad(seen, (0, 0, before, after))  # negative padding removes samples
                _, of_taps, of_bias = gradients(seen, taps, stride, padding, dilation, [False, True, part == parts - 1])
                of_weight[..., part::parts] = of_taps.squeeze(2)
        return of_x, of_weight, of_bias, None, None, None, None


def _conv1d(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int, odd: int, groups: int) -> Tensor:
    """Convolve x, padded by `padding` at both ends and by `odd` more samples at the right end."""
    image = _as_image(x)
    # where time comes last, oneDNN takes twice as long if it has to pad
    before = padding if image.is_contiguous() else 0
    if before or odd:
        image, padding = F.pad(image, (before, before + odd)), padding - before
    return _as_signal(F.conv2d(image, weight.unsqueeze(2), bias, (1, stride), (0, padding), groups=groups))


def _as_image(x: Tensor) -> Tensor:
    """Return [record, time, channel] as an image [record, channel, 1, time], without a copy. If channels come last in
    memory, its memory format is channels_last, which padding keeps, unlike that of a tensor of three dimensions."""
    return x.transpose(1, 2).unsqueeze(2)


def _as_signal(image: Tensor) -> Tensor:
    """The reverse of `_as_image`."""
    return image.squeeze(2).transpose(1, 2)


class Block(nn.Module):
    """Pre-activation bottleneck with squeeze-and-excitation.

    [record, time, channel] -> [record, time / stride, channel'].
    """

    def __init__(
        self, in_channels: int, channels: int, kernel_size: int, stride: int, groups: int, first: bool
    ) -> None:
        super().__init__()
        self.stride, self.first = stride, first
        self.widening = channels - in_channels
        self.bn1, self.bn2, self.bn3 = _uncalled(in_channels), _uncalled(channels), _uncalled(channels)
        self.conv1 = SameConv1d(in_channels, channels, 1)
        self.conv2 = SameConv1d(channels, channels, kernel_size, stride, groups)
        self.conv3 = SameConv1d(channels, channels, 1)
        self.se_fc1 = nn.Linear(channels, channels // 2)
        self.se_fc2 = nn.Linear(channels // 2, channels)
        self.drop_path = DropPath()

    def forward(self, x: Tensor) -> Tensor:
        branch = self.conv1(x if self.first else F.silu(x))
        branch = self.conv3(F.silu(self.conv2(F.silu(branch))))
        squeezed = branch.sum(1) / branch.shape[1]  # torch's mean would copy bf16 to float32
        gate = self.se_fc2(F.silu(self.se_fc1(squeezed))).sigmoid()
        # the gate multiplies the branch, so DropPath may act on the smaller gate
        return torch.addcmul(self._shortcut(x), branch, self.drop_path(gate).unsqueeze(1))

    def _shortcut(self, x: Tensor) -> Tensor:
        """Pool x over time and widen it by channels of zeros, to the shape of the branch."""
        image = _as_image(x)
        if self.stride > 1:
            if x.shape[1] % self.stride:
                image = F.pad(image, ((self.stride - 1) // 2, self.stride // 2))
            if image.is_contiguous():  # time comes last: torch pools it ten times as fast in one dimension
                image = F.max_pool1d(image.squeeze(2), self.stride).unsqueeze(2)
            else:
                image = F.max_pool2d(image, (1, self.stride))
        if self.widening:
            image = F.pad(image, (0, 0, 0, 0, self.widening // 2, self.widening - self.widening // 2))
        return _as_signal(image)


class Stage(nn.Module):
    """A sequence of blocks. The first halves the length."""

    def __init__(self, blocks: list[Block]) -> None:
        super().__init__()
        self.block_list = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.block_list:
            x = block(x)
        return x


class Net1D(Backbone):
    """Stem, stages of blocks, mean over time: [record, lead, time] -> [record, widths[-1]]."""

    def __init__(
        self,
        spec: SignalSpec,
        stem: int,
        widths: tuple[int, ...],
        depths: tuple[int, ...],
        kernel_size: int = 16,
        group_width: int = 16,
    ) -> None:
        super().__init__()
        self.signal_spec = spec
        self.first_conv = SameConv1d(len(spec.leads), stem, kernel_size, stride=2)
        self.first_bn = _uncalled(stem)
        self.stage_list = nn.ModuleList()
        in_channels = stem
        for width, depth in zip(widths, depths, strict=True):
            blocks = []
            for position in range(depth):
                first = position == 0 and not self.stage_list
                stride = 2 if position == 0 else 1
                blocks.append(Block(in_channels, width, kernel_size, stride, width // group_width, first))
                in_channels = width
            self.stage_list.append(Stage(blocks))
        self.feature_dim = in_channels

    def forward(self, signals: Tensor) -> Tensor:
        return self.tokens(signals).mean(1)

    def tokens(self, signals: Tensor) -> Tensor:
        """Signals [record, lead, time] -> [record, time, channel], of which features are the mean."""
        x = signals.contiguous().transpose(1, 2)
        x = F.silu(self.first_conv(x if predicts_plain(signals.device) else x.contiguous()))
        for stage in self.stage_list:
            x = stage(x)
        return x


def _uncalled(channels: int) -> nn.BatchNorm1d:
    """Return a batch norm that is never called. It only provides keys of the checkpoint."""
    norm = nn.BatchNorm1d(channels)
    norm.requires_grad_(False)
    return norm


class PublishedNet1D(Net1D):
    """Net1D at the size of ECGFounder's checkpoints."""

    def __init__(self, spec: SignalSpec) -> None:
        super().__init__(spec, stem=64, widths=(64, 160, 160, 400, 400, 1024, 1024), depths=(2, 2, 2, 3, 3, 4, 4))


@register_backbone("ecgfounder")
class ECGFounder(PublishedNet1D):
    """ECGFounder: Net1D with 30.7 M parameters, pre-trained on over 7 million 12-lead ECGs at 500 Hz.

    The published sources differ in the preprocessing: `ecgfounder` is that of the authors' data set code since August
    2025, `zscore` that of their evaluation on PTB-XL.
    """

    checkpoint = PublishedCheckpoint(
        "PKUDigitalHealth/ECGFounder",
        "12_lead_ECGFounder.pth",
        revision=ECGFOUNDER_COMMIT,
        sha256="ee199f3781f4ae1f732973267f003da0a759ea12bddb0dd28a77faa60aca7997",
        num_bytes=369_942_585,
        head_prefix="dense.",
        head_outputs=150,
        first_logits=(
            *(8.3751173, -4.1527028, -6.7856750, -2.8647900, 4.4135675),
            *(-2.2547250, -5.3009405, -6.1225495, -1.0395477, -1.8894272),
        ),
        **ECGFOUNDER_TERMS,
    )

    def __init__(self, preprocessing: Literal["ecgfounder", "zscore"] = "ecgfounder") -> None:
        super().__init__(SignalSpec(500, preprocessing))


@register_backbone("ecgfounder_1lead")
class ECGFounder1Lead(PublishedNet1D):
    """ECGFounder for lead I alone: the same Net1D on one lead, with the second published checkpoint."""

    checkpoint = PublishedCheckpoint(
        "PKUDigitalHealth/ECGFounder",
        "1_lead_ECGFounder.pth",
        revision=ECGFOUNDER_COMMIT,
        sha256="f863a38897fb49a27fec7e44008ea3c7bdbd29c77fa4a02ecbb8c56df4f37603",
        num_bytes=369_807_481,
        head_prefix="dense.",
        **ECGFOUNDER_TERMS,
    )

    def __init__(self, preprocessing: Literal["ecgfounder", "zscore"] = "ecgfounder") -> None:
        super().__init__(SignalSpec(500, preprocessing, leads=("I",)))


@register_backbone("clef_medium")
class CLEFMedium(PublishedNet1D):
    """CLEF medium (Shu et al. 2025, arXiv 2512.02180): the Net1D of `ecgfounder_1lead`, contrastively pre-trained.

    Code Nokia-Bell-Labs/ecg-foundation-model 0a1156e, CLEF.py (Clear BSD). Pre-trained on MIMIC-IV-ECG, without PTB-XL.
    Lead II at 500 Hz, as in their evaluation on PTB-XL, with the filter and z-score of their pre-training. Zenodo's MD5
    of the file is by a script of others; its SHA-256 is not known. No method is their recipe, whose one-cycle schedule
    is stepped once an epoch over a length in steps.
    """

    checkpoint = PublishedCheckpoint(
        url="https://zenodo.org/records/17572734/files/clef_medium.ckpt",
        page="https://zenodo.org/records/17572734",
        filename="clef_medium.ckpt",
        md5="781eed16d190ef97733994cd2d01d1ff",
        state_dict="state_dict",
        prefix="backbone.",
        pretraining_data="MIMIC-IV-ECG",
        ptbxl_seen="no",
        source="README of Nokia-Bell-Labs/ecg-foundation-model, whose code is BSD-3-Clause-Clear",
    )

    def __init__(self) -> None:
        super().__init__(SignalSpec(500, "clef", leads=("II",)))


@register_backbone("net1d_mini")
class Net1DMini(Net1D):
    """A small Net1D at 100 Hz, about 1 M parameters, for demos, tests and large grids; no published weights."""

    def __init__(self) -> None:
        super().__init__(
            SignalSpec(100, "zscore"), stem=32, widths=(32, 64, 64, 128, 256, 256), depths=(2, 2, 2, 2, 2, 2)
        )
