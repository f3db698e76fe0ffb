"""ECG-FM, DeepECG-SSL, HuBERT-ECG: convolutions, then a post-norm Transformer, as wav2vec 2.0 (Baevski et al. 2020).

ECG-FM: McKeen et al. 2024 (arXiv 2408.05178), code bowang-lab/ECG-FM 9cc0d3f on Jwoo5/fairseq-signals 6b9e137, weights
`wanglab/ecg-fm` (code and weights MIT). PTB-XL was in its pre-training: PhysioNet 2021 and MIMIC-IV-ECG.
DeepECG-SSL: Nolin-Lapalme et al. 2025 (medRxiv 2025.03.02.25322575), code HeartWise-AI/DeepECG_Docker 2a9680e on a fork
of fairseq-signals. The log in its notebooks/ssl_fine_tuning.ipynb prints the whole configuration of the published file:
ECG-FM's, 12 layers, 90,374,017 parameters with a head of one output. No code shows that file's keys; those of
fairseq-signals are expected.
HuBERT-ECG: Coppola et al. 2024 (medRxiv 2024.11.14.24317328), code Edoar-do/HuBERT-ECG affe1f9 on transformers'
HubertModel; code and weights CC BY-NC 4.0, non-commercial. PTB-XL was in its pre-training.
MELP and D-BETA, which begin with the same modules, are in ecg_text.py.

Traps: all normalise after each addition, and their `encoder.layer_norm` stands before the first layer (with
`layer_norm_first: false`); of three other re-implementations of ECG-FM none has both. The keys of the positions are
`weight_g` and `weight_v`, or `parametrizations.weight.original0` and `original1`, by the version of torch that wrote
the file. Features are the mean over tokens.

Deviations: a DropPath in every branch and no dropped layers. Dropout is what their fine-tuning has: in ECG-FM and
DeepECG-SSL 0.1 after the GELU of each layer; HuBERT-ECG has 0.1 in attention and before its head, here none. HuBERT-ECG
filters at the rate of the file, resamples to 500 Hz, scales, cuts 5 s, and decimates by 5 with all leads in one row;
here filter and scale are at 500 Hz, and the polyphase filter that makes 100 Hz of it runs over each whole lead (0.008
of -1..1 apart on 60 records of PTB-XL, root mean square). DeepECG-SSL brings each data set to the mean spectrum of
PTB-XL at 250 Hz (3.00; 488 records in mV have 2.87), so mV is its scale here; its removal of power-line peaks is left
out.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import baselines.preprocessing  # noqa: F401 (registers lead_zscore and hubert_ecg)
from baselines.vit1d import attend
from bench.plugin import Backbone, Count, DropPath, PublishedCheckpoint, SignalSpec, register_backbone


class Convolutions(nn.Module):
    """Strided convolutions with GELU, the first with a group norm: [record, lead, time] -> [record, dim, token]."""

    def __init__(self, in_channels: int, dim: int, kernels: tuple[int, ...], strides: tuple[int, ...]) -> None:
        super().__init__()
        channels = [in_channels] + [dim] * len(kernels)
        self.layers = nn.ModuleList(
            nn.Conv1d(channels[number], dim, kernel, stride, bias=False)
            for number, (kernel, stride) in enumerate(zip(kernels, strides, strict=True))
        )
        self.norm = nn.GroupNorm(dim, dim)
        for parameter in self.layers.parameters():
            nn.init.kaiming_normal_(parameter)

    def forward(self, signals: Tensor) -> Tensor:
        x = F.gelu(self.norm(self.layers[0](signals)))
        for layer in self.layers[1:]:
            x = F.gelu(layer(x))
        return x


class Positions(nn.Module):
    """Positions by a grouped convolution over tokens with weight norm: [record, token, width] -> the same.

    The weight is `direction` [width, width / groups, kernel], scaled to the length `scale` [1, 1, kernel] at each tap.
    """

    def __init__(self, width: int, kernel: int = 128, groups: int = 16) -> None:
        super().__init__()
        self.groups, self.padding = groups, kernel // 2
        self.direction = nn.Parameter(torch.randn(width, width // groups, kernel) * math.sqrt(4 / (kernel * width)))
        self.scale = nn.Parameter(self.direction.detach().norm(dim=(0, 1), keepdim=True))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.direction * (self.scale / self.direction.norm(dim=(0, 1), keepdim=True))
        positions = F.conv1d(x.transpose(1, 2), weight, self.bias, padding=self.padding, groups=self.groups)
        return F.gelu(positions[..., : x.shape[1]]).transpose(1, 2)  # an even kernel gives a token too many


class Layer(nn.Module):
    """Post-norm Transformer layer: [record, token, width] -> the same."""

    def __init__(self, width: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)
        self.attention_norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(width)
        self.attention_drop_path = DropPath()
        self.mlp_drop_path = DropPath()

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            layer(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        mixed = self.out(attend(query, key, value).transpose(1, 2).flatten(2))
        x = self.attention_norm(x + self.attention_drop_path(mixed))
        return self.norm(x + self.mlp_drop_path(self.down(self.dropout(F.gelu(self.up(x))))))  # type: ignore[no-any-return]


class Wav2Vec2(Backbone):
    """Convolutions, projection, positions, Transformer, mean over tokens: [record, lead, time] -> [record, width]."""

    def __init__(
        self, convolutions: Convolutions, conv_dim: int, width: int, depth: int, num_heads: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.convolutions = convolutions
        self.projection = nn.Sequential(nn.LayerNorm(conv_dim), nn.Linear(conv_dim, width))
        self.positions = Positions(width)
        self.norm = nn.LayerNorm(width)
        self.layers = nn.ModuleList(Layer(width, num_heads, dropout) for _ in range(depth))
        self.feature_dim = width
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def embed(self, signals: Tensor) -> Tensor:
        """Signals [record, lead, time] -> tokens [record, token, width] with their positions."""
        x: Tensor = self.projection(self.convolutions(signals).transpose(1, 2))
        return x + self.positions(x)  # type: ignore[no-any-return]

    def transform(self, x: Tensor) -> Tensor:
        """Tokens [record, token, width] -> the same, through the Transformer."""
        x = self.norm(x)
        for layer in self.layers:
            x = layer(x)
        return x

    def tokens(self, signals: Tensor) -> Tensor:
        """Signals [record, lead, time] -> [record, token, width], of which features are the mean."""
        return self.transform(self.embed(signals))

    def forward(self, signals: Tensor) -> Tensor:
        return self.tokens(signals).mean(1)


SHARED_RENAMES = (
    (r"^(.*)\.(?:parametrizations\.weight\.original0|weight_g)$", r"\1.scale"),
    (r"^(.*)\.(?:parametrizations\.weight\.original1|weight_v)$", r"\1.direction"),
    (r"^encoder\.layer_norm\.", "norm."),
    (r"^encoder\.layers\.", "layers."),
    (r"^(.*)\.final_layer_norm\.", r"\1.norm."),
    (r"^(.*)\.(?:self_attn|attention)\.q_proj\.", r"\1.query."),
    (r"^(.*)\.(?:self_attn|attention)\.k_proj\.", r"\1.key."),
    (r"^(.*)\.(?:self_attn|attention)\.v_proj\.", r"\1.value."),
    (r"^(.*)\.(?:self_attn|attention)\.out_proj\.", r"\1.out."),
)
ECG_FM_RENAMES = (
    *SHARED_RENAMES,
    (r"^feature_extractor\.conv_layers\.0\.2\.", "convolutions.norm."),
    (r"^feature_extractor\.conv_layers\.(\d+)\.0\.", r"convolutions.layers.\1."),
    (r"^layer_norm\.", "projection.0."),
    (r"^post_extract_proj\.", "projection.1."),
    (r"^conv_pos\.pos_conv\.0\.", "positions."),
    (r"^(.*)\.self_attn_layer_norm\.", r"\1.attention_norm."),
    (r"^(.*)\.fc1\.", r"\1.up."),
    (r"^(.*)\.fc2\.", r"\1.down."),
)
"""How the file's keys become ours, in this order; the state dict is under `model`."""
PRETRAINING_ONLY = (r"mask_emb$", r"quantizer\.", r"project_q\.", r"final_proj\.")
"""Keys that only their pre-training needs."""
HUBERT_ECG_RENAMES = (
    *SHARED_RENAMES,
    (r"^feature_extractor\.conv_layers\.0\.layer_norm\.", "convolutions.norm."),
    (r"^feature_extractor\.conv_layers\.(\d+)\.conv\.", r"convolutions.layers.\1."),
    (r"^feature_projection\.layer_norm\.", "projection.0."),
    (r"^feature_projection\.projection\.", "projection.1."),
    (r"^encoder\.pos_conv_embed\.conv\.", "positions."),
    (r"^(layers\.\d+)\.layer_norm\.", r"\1.attention_norm."),
    (r"^(.*)\.feed_forward\.intermediate_dense\.", r"\1.up."),
    (r"^(.*)\.feed_forward\.output_dense\.", r"\1.down."),
)
"""How the keys of `model.safetensors` become ours, in this order."""


def hubert_ecg_checkpoint(size: str, sha256: str) -> PublishedCheckpoint:
    """Return the published weights of a size, such as `small`. Hashes are those that other programs record."""
    return PublishedCheckpoint(
        f"Edoardo-BS/hubert-ecg-{size}",
        "model.safetensors",
        revision="main",
        sha256=sha256,
        renames=HUBERT_ECG_RENAMES,
        left_out=(r"masked_spec_embed$", r"final_proj\.", r"label_embedding\."),
        license="CC-BY-NC-4.0",
        noncommercial=True,
        pretraining_data="CODE, CPSC, PTB, PTB-XL, Georgia, Chapman, Ningbo, Hefei, SPH, MIMIC-IV-ECG",
        ptbxl_seen="yes",
        source="README of Edoar-do/HuBERT-ECG; data: the third version of the preprint, as two others quote it",
    )


@register_backbone("ecg_fm")
class ECGFM(Wav2Vec2):
    """ECG-FM: 12 layers of width 768; 90.4 M parameters, 12 leads at 500 Hz, windows of 5 s. PTB-XL was seen."""

    checkpoint = PublishedCheckpoint(
        "wanglab/ecg-fm",
        "mimic_iv_ecg_physionet_pretrained.pt",
        revision="main",
        sha256="4d0142bcb485eb9f0c7845e0c19ff3463f6ae9d0e458eab69136efe90ceb9b7e",
        num_bytes=1_090_825_421,
        state_dict="model",
        renames=ECG_FM_RENAMES,
        left_out=PRETRAINING_ONLY,
        license="MIT",
        pretraining_data="MIMIC-IV-ECG, PhysioNet 2021",
        ptbxl_seen="yes",
        source="README of bowang-lab/ECG-FM: PhysioNet 2021 holds PTB-XL; hash and licence: the hub",
    )
    signal_spec = SignalSpec(500, "lead_zscore", window_s=5, stride_s=5, aggregate="mean")

    def __init__(self, depth: Count = 12) -> None:
        convolutions = Convolutions(12, 256, kernels=(2,) * 4, strides=(2,) * 4)
        super().__init__(convolutions, conv_dim=256, width=768, depth=depth, num_heads=12, dropout=0.1)


@register_backbone("deepecg_ssl")
class DeepECGSSL(ECGFM):
    """DeepECG-SSL: ECG-FM's architecture at 250 Hz, whole records; 90.4 M parameters. Access by request."""

    checkpoint = PublishedCheckpoint(
        "heartwise/SSL_Pretrained_model",
        "SSL_pretrained.pt",
        revision="main",
        state_dict="model",
        renames=ECG_FM_RENAMES,
        left_out=PRETRAINING_ONLY,
        access="ask for access on its page and set HF_TOKEN",
        noncommercial=True,
        pretraining_data="Montreal Heart Institute, MIMIC-IV-ECG, CODE-15",
        ptbxl_seen="no",
        source="notebooks/ssl_fine_tuning.ipynb of HeartWise-AI/DeepECG_Docker; the card of its fine-tuned model "
        "wcr_77_classes says CC BY-NC 4.0, that of this file was not seen",
    )
    signal_spec = SignalSpec(250, "none")


class HuBERTECG(Wav2Vec2):
    """HuBERT-ECG: the 12 leads stand one after the other in a single row of 6,000 samples."""

    signal_spec = SignalSpec(100, "hubert_ecg", window_s=5, stride_s=5, aggregate="mean", preprocessing_rate=500)

    def __init__(self, width: int, depth: int) -> None:
        convolutions = Convolutions(1, 512, kernels=(10, 3, 3, 2, 2), strides=(4, 2, 2, 2, 2))
        super().__init__(convolutions, conv_dim=512, width=width, depth=depth, num_heads=width // 64)

    def tokens(self, signals: Tensor) -> Tensor:
        """Signals [record, 12, 500] -> [record, 93, width], of which features are the mean."""
        return super().tokens(signals.flatten(1).unsqueeze(1))


@register_backbone("hubert_ecg_small")
class HuBERTECGSmall(HuBERTECG):
    """HuBERT-ECG small: 8 layers of width 512; 30.2 M parameters, 100 Hz, windows of 5 s. Non-commercial."""

    checkpoint = hubert_ecg_checkpoint("small", "c78fa955268212f8ed20bc69fb1b882d76a4351df2466061335950949394a4d2")

    def __init__(self, depth: Count = 8) -> None:
        super().__init__(512, depth)


@register_backbone("hubert_ecg_base")
class HuBERTECGBase(HuBERTECG):
    """HuBERT-ECG base: 12 layers of width 768; 92.8 M parameters, 100 Hz, windows of 5 s. Non-commercial."""

    checkpoint = hubert_ecg_checkpoint("base", "05bc1b1317f8e3063811a03fb840f5bf8a85968191e209c0cfbaa0c52c8aa1ae")

    def __init__(self, depth: Count = 12) -> None:
        super().__init__(768, depth)
