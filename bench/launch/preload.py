"""Import and compute once what each process of a sweep needs: their server imports this module, and they are its forks.

torch imports its compiler with the first optimizer, which takes 1.5 s of CPU time. Parsing the harness's code, for the
hashes that a result records, takes 0.3 s.
"""

import gc

import torch._dynamo

import bench.execute
from bench.registry.source import code_hash
from bench.results.identity import harness_facts

__all__ = ["bench", "torch"]

harness_facts()  # of the code that the server has imported, and so of what its forks run
code_hash("bench.training.features")
gc.collect()
gc.freeze()  # a cell's own garbage collection need not go through all that was imported, which takes 0.1 s
