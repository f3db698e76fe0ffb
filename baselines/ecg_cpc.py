"""ECG-CPC (Al-Masud, Alcaraz & Strodthoff, arXiv 2509.25095): causal S4 pre-trained by contrastive predictive coding.

Code AI4HealthUOL/ecg-fm-benchmarking 6367295, clinical_ts/ts/{encoder,s4}.py and s4_modules/s42.py (no licence stated),
written anew on baselines/s4.py; weights CC BY 4.0 on figshare. Pre-trained on HEEDB, without PTB-XL. The smallest of
the foundation models, and with the largest published macro AUROC on all 71 labels, 0.949.

Input: mV at 240 Hz, no filter, no standardisation; windows of 2.5 s, whose logits are averaged. Deviation: a whole
record is resampled by a polyphase filter, theirs is resampled crop by crop (resampy). The file has state
spaces for 1,200 tokens, of which 300 are used. Each channel has its own poles, which are not trained. `omega` and
`z` follow from the length, and `Q` is the conjugate of `P`: these are left out. As in S4 here, the last root of unity
is no pole, and a DropPath stands before each addition.
"""

import torch
from torch import Tensor, nn

from baselines.s4 import Block, StateSpace
from bench.plugin import Backbone, Count, PublishedCheckpoint, SignalSpec, register_backbone

WIDTH, STATES, LENGTH = 512, 8, 1200
"""Channels, states of each, tokens that the published state spaces were made for."""

RENAMES = (
    (r"^ts_encoder\.encoder\.layers\.", "encoder."),
    (r"^ts_encoder\.predictor\.predictor\.s4_layers\.", "blocks."),
    (r"^ts_encoder\.predictor\.predictor\.norms\.(\d+)\.", r"blocks.\1.norm."),
    (r"^(.*)\.D$", r"\1.state_space.skip"),
    (r"^(.*)\.kernel\.kernel\.C$", r"\1.state_space.output"),
    (r"^(.*)\.kernel\.kernel\.log_dt$", r"\1.state_space.log_step"),
    (r"^(.*)\.kernel\.kernel\.B$", r"\1.state_space.input_map"),
    (r"^(.*)\.kernel\.kernel\.P$", r"\1.state_space.low_rank"),
    (r"^(.*)\.kernel\.kernel\.w$", r"\1.state_space.poles"),
    (r"^(.*)\.output_linear\.0\.", r"\1.mix."),
)
"""How the file's keys become ours, in this order; the state dict is under `state_dict`."""
CONFIGURATION = (
    *(r"clinical_ts\.", r"omegaconf\.", r"typing\.", r"pathlib\.", r"collections\.defaultdict$"),
    r"builtins\.(?:bool|bytes|dict|float|int|list|str|tuple)$",
)
"""Classes of the configuration that Lightning saves beside the weights: OmegaConf names the types of its values."""


class CausalStateSpace(StateSpace):
    """A state space that looks back only, with poles of its own for each channel; tensors have the file's shapes."""

    def __init__(self) -> None:
        super().__init__(WIDTH, STATES, LENGTH, num_directions=1)
        self.skip = nn.Parameter(torch.randn(1, WIDTH))
        self.register_buffer("poles", self.poles.repeat(WIDTH, 1, 1))
        self.register_buffer("low_rank", self.low_rank.repeat(1, WIDTH, 1, 1))
        self.register_buffer("input_map", self.input_map.repeat(1, WIDTH, 1, 1))


class Mix(nn.Module):
    """A linear layer over channels, its bias a column: [record, channel, time] -> [record, 2 * channel, time]."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.Linear(WIDTH, 2 * WIDTH)
        self.weight = nn.Parameter(layer.weight.detach())
        self.bias = nn.Parameter(layer.bias.detach().unsqueeze(-1))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight @ x + self.bias


class CausalBlock(Block):
    """The block of S4, which looks back only: [record, channel, time] -> the same."""

    def __init__(self) -> None:
        super().__init__(WIDTH, STATES, LENGTH, dropout=0.2)
        self.state_space = CausalStateSpace()
        self.mix = Mix()


@register_backbone("ecg_cpc")
class ECGCPC(Backbone):
    """ECG-CPC: four convolutions and four causal S4 layers of 512 channels; 2.9 M parameters, 240 Hz, 2.5 s."""

    checkpoint = PublishedCheckpoint(
        page="https://figshare.com/articles/dataset/ECG-CPC_Checkpoint_zip/30192604",
        filename="last_11597276.ckpt",
        sha256="bc253edc6ac279ce2caec86d3c3a21b740e43735ca03be1dc7c50e630b0ad4cf",
        state_dict="state_dict",
        renames=RENAMES,
        left_out=(r"blocks\.\d+\.kernel\.kernel\.(?:omega|z|Q)$", r"ts_encoder\.head_ssl\."),
        inert_classes=CONFIGURATION,
        access="unpack the archive that the page serves",
        license="CC-BY-4.0",
        pretraining_data="HEEDB",
        ptbxl_seen="no",
        source="README and configuration of AI4HealthUOL/ecg-fm-benchmarking; hash, licence: a third party's loader",
    )
    signal_spec = SignalSpec(240, "none", window_s=2.5, stride_s=2.5, aggregate="mean")

    def __init__(self, depth: Count = 4) -> None:
        super().__init__()
        convolutions = [nn.Conv1d(12, WIDTH, 3, stride=2, padding=1, bias=False)]
        convolutions += [nn.Conv1d(WIDTH, WIDTH, 1, bias=False) for _ in range(3)]
        self.encoder = nn.Sequential(*(nn.Sequential(conv, nn.BatchNorm1d(WIDTH), nn.ReLU()) for conv in convolutions))
        self.blocks = nn.Sequential(*(CausalBlock() for _ in range(depth)))
        self.feature_dim = WIDTH

    def tokens(self, signals: Tensor) -> Tensor:
        """Signals [record, 12, 600] -> [record, 300, 512], of which features are the mean."""
        return self.blocks(self.encoder(signals)).transpose(1, 2)  # type: ignore[no-any-return]

    def forward(self, signals: Tensor) -> Tensor:
        return self.tokens(signals).mean(1)
