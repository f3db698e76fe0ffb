"""What a run leaves, and what is asked of it: no torch, no board."""
