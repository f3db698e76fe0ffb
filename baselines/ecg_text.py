"""MELP and D-BETA: encoders pre-trained with the reports of MIMIC-IV-ECG, on the modules of ECG-FM with 8 layers.

MELP: Wang et al., ICML 2025 (arXiv 2506.21803), code HKU-MedAI/MELP 088741d (MIT) and the model code beside its weights
on the hub; `fuyingw/MELP_Encoder` holds the encoder in bf16. Input as in its finetune_dataset.py: 12 leads at 500 Hz,
10 s, scaled to 0..1 by minimum and maximum over all leads; aVF stands before aVL, as in MIMIC-IV-ECG. Its 256 features
are those of its evaluation (`ext_ecg_emb`): 14 queries attend to the tokens, and the mean of the normalised answers is
taken, without the projection that its contrastive loss uses.
D-BETA: Hung et al., ICML 2025 (arXiv 2410.02131), code manhph2211/D-BETA 92e07e7; code and weights CC BY-NC 4.0,
non-commercial, and the hub asks for a request. Input: 12 leads in mV at 500 Hz, 10 s, neither filtered nor normalised
(configs/config.json). Its order of leads in pre-training was not seen; here it is the standard one. Features as in its
get_ecg_feats: a class token before the others, a projection, and a pooler, tanh(linear).

Deviations: DropPath in every branch and no dropout (theirs at 0.1 while pre-training; both are evaluated frozen). MELP
scales the gradients of its convolutions by 0.1 in pre-training (`feature_grad_mult`); here they are whole.
"""

import torch
from torch import Tensor, nn

from baselines.merl import LEADS
from baselines.wav2vec2 import ECG_FM_RENAMES, PRETRAINING_ONLY, Convolutions, Wav2Vec2
from bench.plugin import Count, PublishedCheckpoint, SignalSpec, register_backbone

WIDTH, DEPTH = 768, 8


class TextTrained(Wav2Vec2):
    """The encoder that both share: 8 layers of width 768 over 312 tokens of a record of 10 s."""

    def __init__(self, depth: int) -> None:
        convolutions = Convolutions(12, 256, kernels=(2,) * 4, strides=(2,) * 4)
        super().__init__(convolutions, conv_dim=256, width=WIDTH, depth=depth, num_heads=12)


class QueryPool(nn.Module):
    """Learnt queries attend to tokens [record, token, width]; the mean of their normalised answers [record, dim]."""

    def __init__(self, num_queries: int, dim: int, width: int, num_heads: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(num_queries, dim))
        self.query_norm, self.key_norm, self.norm = nn.LayerNorm(dim), nn.LayerNorm(width), nn.LayerNorm(dim)
        self.attention = nn.MultiheadAttention(dim, num_heads, kdim=width, vdim=width, batch_first=True)

    def forward(self, tokens: Tensor) -> Tensor:
        keys = self.key_norm(tokens)
        queries = self.query_norm(self.query).expand(len(tokens), -1, -1)
        return self.norm(self.attention(queries, keys, keys, need_weights=False)[0]).mean(1)  # type: ignore[no-any-return]


@register_backbone("melp")
class MELP(TextTrained):
    """MELP: 8 layers of width 768 and attentive pooling to 256 features; 62.6 M parameters, 500 Hz, whole records."""

    checkpoint = PublishedCheckpoint(
        "fuyingw/MELP_Encoder",
        "model.safetensors",
        revision="main",
        renames=(
            (r"ecg_encoder\.ecg_encoder\.", ""),
            (r"ecg_encoder\.", ""),
            *ECG_FM_RENAMES,
            (r"attn_pool_contrast\.query$", "pool.query"),
            (r"attn_pool_contrast\.ln_q\.", "pool.query_norm."),
            (r"attn_pool_contrast\.ln_k\.", "pool.key_norm."),
            (r"attn_pool_contrast\.attn\.", "pool.attention."),
            (r"ln_contrast\.", "pool.norm."),
        ),
        left_out=(
            *PRETRAINING_ONLY,
            "proj_contrast$",
            r"attn_pool_caption\.",
            r"ln_caption\.",
            "logit_scale$",
            r"bn\.",
        ),
        license="Apache-2.0",
        pretraining_data="MIMIC-IV-ECG with reports",
        ptbxl_seen="no",
        source="paper; licence: the hub's card",
    )
    signal_spec = SignalSpec(500, "merl", leads=LEADS)

    def __init__(self, depth: Count = DEPTH) -> None:
        super().__init__(depth)
        self.pool = QueryPool(14, 256, WIDTH, num_heads=8)
        self.feature_dim = 256

    def forward(self, signals: Tensor) -> Tensor:
        return self.pool(self.tokens(signals))  # type: ignore[no-any-return]


@register_backbone("d_beta")
class DBETA(TextTrained):
    """D-BETA: 8 layers of width 768, class token, pooler; 63.2 M parameters, 500 Hz, whole records. Non-commercial."""

    checkpoint = PublishedCheckpoint(
        "Manhph2211/D-BETA",
        "sample.pt",
        revision="main",
        access="ask for access on its page and set HF_TOKEN",
        state_dict="model",
        renames=(
            (r"ecg_encoder\.", ""),
            *ECG_FM_RENAMES,
            (r"class_embedding$", "class_token"),
            (r"multi_modal_ecg_proj\.", "pooler.0."),
            (r"unimodal_ecg_pooler\.dense\.", "pooler.1."),
        ),
        left_out=(
            r"mask_emb$",
            r"language_encoder\.",
            r"modality_type_embeddings\.",
            r"multi_modal_language_(proj|layers|pooler)\.",
            r"multi_modal_ecg_(layers|pooler)\.",
            r"unimodal_language_pooler\.",
            r"(mlm|mim|itm)_head\.",
        ),
        license="CC-BY-NC-4.0",
        noncommercial=True,
        pretraining_data="MIMIC-IV-ECG with reports",
        ptbxl_seen="no",
        source="LICENSE of manhph2211/D-BETA; paper",
    )
    signal_spec = SignalSpec(500, "none")

    def __init__(self, depth: Count = DEPTH) -> None:
        super().__init__(depth)
        self.class_token = nn.Parameter(torch.rand(WIDTH))
        projection, dense = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        for layer in (projection, dense):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        self.pooler = nn.Sequential(projection, dense, nn.Tanh())

    def tokens(self, signals: Tensor) -> Tensor:
        """Signals [record, 12, 5000] -> [record, 1 + 312, width]; the pooler makes features of the first."""
        x = self.embed(signals)
        return self.transform(torch.cat([self.class_token.to(x.dtype).expand(len(x), 1, -1), x], dim=1))

    def forward(self, signals: Tensor) -> Tensor:
        return self.pooler(self.tokens(signals)[:, 0])  # type: ignore[no-any-return]

    def layer_groups(self) -> list[str]:
        class_token, *others = super().layer_groups()
        at = others.index("norm")
        return [*others[:at], class_token, *others[at:]]
