"""Predictions to numbers: metrics, patient-level intervals and paired comparisons. NumPy and SciPy only."""
