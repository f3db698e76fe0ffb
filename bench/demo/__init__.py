"""The synthetic PTB-XL."""
