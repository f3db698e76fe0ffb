"""Records in: a dataset's folder becomes labels, splits and prepared signals."""
