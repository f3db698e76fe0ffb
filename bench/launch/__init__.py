"""Run one cell on several processes, and many cells on workers or machines."""
