"""The preprocessing of foundation models, as published; what differs is in the docstrings of the backbones.

It lies apart from the backbones because an edit of this file prepares all signals anew.
"""

import functools

import numpy as np
import numpy.typing as npt
import scipy.signal

from bench.plugin import DataError, register_preprocessing

Signal = npt.NDArray[np.float32]


@register_preprocessing("merl", version=1)
def merl(record: Signal, rate: int) -> Signal:
    """Scale a record to 0..1: (x - min) / (max - min + 1e-8) over all leads and samples."""
    wide = record.astype(np.float64)
    low, high = wide.min(), wide.max()
    return np.asarray((wide - low) / (high - low + 1e-8), dtype=np.float32)


@register_preprocessing("st_mem", version=2)
def st_mem(window: Signal, rate: int) -> Signal:
    """High-pass at 0.67 Hz, then low-pass at 40 Hz, then (x - mean) / std over all leads and samples.

    Butterworth filters of order 5, forwards and backwards. A flat window becomes 0.
    """
    high, low = _st_mem_filters(rate)
    filtered = scipy.signal.sosfiltfilt(low, scipy.signal.sosfiltfilt(high, window.astype(np.float64)))
    std = filtered.std()
    return np.asarray((filtered - filtered.mean()) / (std if std > 0 else 1.0), dtype=np.float32)


@functools.cache
def _st_mem_filters(rate: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    return (
        scipy.signal.butter(5, 0.67, "highpass", output="sos", fs=rate),
        scipy.signal.butter(5, 40.0, "lowpass", output="sos", fs=rate),
    )


@register_preprocessing("lead_zscore", version=1)
def lead_zscore(record: Signal, rate: int) -> Signal:
    """ECG-FM's: (x - mean) / std of each lead; a flat lead becomes 0."""
    wide = record.astype(np.float64)
    std = wide.std(-1, keepdims=True)
    return np.asarray((wide - wide.mean(-1, keepdims=True)) / np.where(std > 0, std, 1.0), dtype=np.float32)


@register_preprocessing("hubert_ecg", version=1)
def hubert_ecg(record: Signal, rate: int) -> Signal:
    """Band-pass 0.05-47 Hz by an FIR filter of 0.3 s, forwards and backwards; then scale each lead to -1..1."""
    taps = scipy.signal.firwin(int(0.3 * rate) | 1, [0.05, 47.0], pass_zero=False, fs=rate)
    wide = record.astype(np.float64)
    wide = scipy.signal.filtfilt(taps, np.ones(1), wide, axis=-1, padlen=min(3 * len(taps), wide.shape[-1] - 1))
    low, high = wide.min(-1, keepdims=True), wide.max(-1, keepdims=True)
    return np.asarray(2 * (wide - low) / (high - low + 1e-8) - 1, dtype=np.float32)


@register_preprocessing("clef", version=1)
def clef(record: Signal, rate: int) -> Signal:
    """Band-pass 0.67-40 Hz (Butterworth of order 5, forwards and backwards), then (x - mean) / (std + 1e-8) by lead.

    Second-order sections instead of their polynomials, which lose digits at 0.67 Hz.
    """
    band = scipy.signal.butter(5, [0.67, 40.0], "bandpass", output="sos", fs=rate)
    wide = scipy.signal.sosfiltfilt(band, record.astype(np.float64))
    scaled = (wide - wide.mean(-1, keepdims=True)) / (wide.std(-1, keepdims=True) + 1e-8)
    return np.asarray(scaled, dtype=np.float32)


PTBXL_MEAN = (-0.002, -0.002, 0.000, 0.002, -0.001, -0.001, 0.000, -0.001, -0.002, -0.001, -0.001, -0.001)
PTBXL_STD = (0.191, 0.166, 0.173, 0.142, 0.149, 0.147, 0.235, 0.338, 0.335, 0.299, 0.294, 0.242)
"""mV, of each lead over folds 1-8 of PTB-XL at 500 Hz, as pretrain.py of kweimann/ECG-JEPA gives them."""


@register_preprocessing("ecg_jepa_weimann", version=1)
def ecg_jepa_weimann(record: Signal, rate: int) -> Signal:
    """(x - mean) / std with PTB-XL's mean and deviation of each lead, then limited to -5..5."""
    if len(record) != len(PTBXL_MEAN):
        raise DataError(f"ecg_jepa_weimann standardises the 12 leads by name, got {len(record)} leads")
    mean, std = (np.array(values)[:, None] for values in (PTBXL_MEAN, PTBXL_STD))
    return np.asarray(np.clip((record - mean) / std, -5, 5), dtype=np.float32)
