"""One cell on many processes, many cells on many machines."""
