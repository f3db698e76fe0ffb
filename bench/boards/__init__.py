"""Results become statements: rows, comparisons, claims. No text, no torch."""
