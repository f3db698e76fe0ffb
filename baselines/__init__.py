"""Backbones, one file for each architecture family. They are plugins and import only `bench.plugin`."""
