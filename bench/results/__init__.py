"""Results of runs: read, write, compare, list and prune them. Imports no torch."""
