"""Networks that return a score for each class at each pixel."""
