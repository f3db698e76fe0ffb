"""ST-MEM (Na et al., ICLR 2024): a Transformer pre-trained as a masked autoencoder over time and leads.

Code bakqui/ST-MEM 69ec702, models/encoder/st_mem_vit.py (CC BY-NC 4.0, and its README forbids to distribute or modify
it), written anew from the paper and its shapes. The licence of the weights is not stated apart: non-commercial use
only. Pre-trained on Chapman, Ningbo and CODE-15, without PTB-XL.

Input: 12 leads at 250 Hz; three windows of 9 s of a record of 10 s, whose logits are averaged. Each window is cut, then
filtered to 0.67-40 Hz, then z-scored over all leads and samples, as in configs/downstream/st_mem.yaml. A separator
stands at both ends of each lead; the mean over patches leaves it out, and the last norm comes after the mean.
Deviations: DropPath in every branch (theirs: at rate 0); signals are resampled by a polyphase filter, not by FFT.
"""

import torch
from torch import Tensor, nn

import baselines.preprocessing  # noqa: F401 (registers st_mem)
from baselines.vit1d import Block
from bench.plugin import Backbone, Count, PublishedCheckpoint, SignalSpec, register_backbone

LEADS, PATCHES, SAMPLES, WIDTH = 12, 30, 75, 768
"""Leads, patches of a lead, samples of a patch."""

RENAMES = (
    (r"^encoder\.", ""),
    (r"^to_patch_embedding\.1\.", "patches.0."),
    (r"^to_patch_embedding\.2\.", "patches.1."),
    (r"^to_patch_embedding\.3\.", "patches.2."),
    (r"^pos_embedding$", "positions"),
    (r"^sep_embedding$", "separator"),
    (r"^lead_embeddings\.", "leads."),
    (r"^block(\d+)\.", r"blocks.\1."),
    (r"^(.*)\.attn\.norm\.", r"\1.attention.0."),
    (r"^(.*)\.attn\.fn\.to_qkv\.", r"\1.attention.1.qkv."),
    (r"^(.*)\.attn\.fn\.to_out\.0\.", r"\1.attention.1.out."),
    (r"^(.*)\.ff\.norm\.", r"\1.mlp.0."),
    (r"^(.*)\.ff\.fn\.net\.0\.", r"\1.mlp.1."),
    (r"^(.*)\.ff\.fn\.net\.3\.", r"\1.mlp.3."),
)
"""How the keys of a file become ours, in this order; the state dict is under `model`.

The file of the encoder and the full one both load. The full one begins its encoder's keys with `encoder.`, has the
embedding of patches a second time without it, and a decoder.
"""


@register_backbone("st_mem")
class STMEM(Backbone):
    """ST-MEM: 12 Transformer blocks of width 768 over 12 leads x 30 patches; 85.2 M parameters, 250 Hz."""

    checkpoint = PublishedCheckpoint(
        page="https://drive.google.com/file/d/1E7J-A1HqWa2f08T6Sfk5uWk-_CFJhOYQ/view",
        filename="st_mem_vit_base_encoder.pth",
        sha256="6f63d370fd1a2ccf2fbddd681571adf985eeae3f652973f0071342a39b7793d6",
        state_dict="model",
        renames=RENAMES,
        left_out=(r"decoder_", r"to_decoder_embedding\.", r"mask_embedding$"),
        noncommercial=True,
        pretraining_data="Chapman, Ningbo, CODE-15",
        ptbxl_seen="no",
        source="paper; LICENSE and README of bakqui/ST-MEM, whose code is CC-BY-NC-4.0; hash: a third party's record",
    )
    signal_spec = SignalSpec(250, "st_mem", window_s=9, stride_s=0.5, aggregate="mean", per_window=True)

    def __init__(self, depth: Count = 12) -> None:
        super().__init__()
        self.patches = nn.Sequential(nn.LayerNorm(SAMPLES), nn.Linear(SAMPLES, WIDTH), nn.LayerNorm(WIDTH))
        self.positions = nn.Parameter(torch.randn(1, PATCHES + 2, WIDTH))
        self.separator = nn.Parameter(torch.randn(WIDTH))
        self.leads = nn.ParameterList(nn.Parameter(torch.randn(WIDTH)) for _ in range(LEADS))
        self.blocks = nn.ModuleList(Block(WIDTH, num_heads=12, eps=1e-5) for _ in range(depth))
        self.norm = nn.LayerNorm(WIDTH)
        self.feature_dim = WIDTH

    def tokens(self, signals: Tensor) -> Tensor:
        """Signals [record, 12, 2250] -> [record, 360, 768], lead by lead; features are the norm of their mean."""
        patches = self.patches(signals.reshape(*signals.shape[:2], -1, SAMPLES))
        separator = self.separator.to(patches.dtype).expand(*patches.shape[:2], 1, -1)
        x = torch.cat([separator, patches, separator], dim=2) + self.positions
        x = (x + torch.stack(list(self.leads)).unsqueeze(1)).flatten(1, 2)
        for block in self.blocks:
            x = block(x)
        return x.reshape(len(x), LEADS, -1, WIDTH)[:, :, 1:-1].flatten(1, 2)

    def forward(self, signals: Tensor) -> Tensor:
        return self.norm(self.tokens(signals).mean(1))  # type: ignore[no-any-return]

    def layer_groups(self) -> list[str]:
        embedding = ["patches", "separator", "positions", "leads"]
        return [*embedding, *(f"blocks.{number}" for number in range(len(self.blocks))), "norm"]
