"""Backbones, one file an architecture family. They enter by the same door as anyone's: `bench.plugin`."""
