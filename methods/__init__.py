"""Post-training methods, one file a method or a family. They enter by the same door as anyone's: `bench.plugin`."""
