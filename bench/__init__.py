"""Compare post-training methods of ECG foundation models on PTB-XL."""

__version__ = "0.1.0"
