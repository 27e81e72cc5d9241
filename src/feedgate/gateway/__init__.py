"""A running gateway out of a stack: supervisor, workers, loader; start, drain, stop."""
