"""Post-training methods, one file per family. They use only `bench.plugin`, as methods of other packages do."""
