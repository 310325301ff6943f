"""Sources: random access to the raw records of a data set."""
