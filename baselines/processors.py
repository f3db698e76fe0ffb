"""What backbones ask of the processor that they run on, to choose the faster of two ways to compute the same."""

import torch


def has_avx512(capability: str = "") -> bool:
    """Return whether a processor has AVX-512, by torch's name of its instruction sets [default: this processor's]."""
    return (capability or torch.backends.cpu.get_cpu_capability()).startswith("AVX512")
