"""Networks that give a number for each class at each pixel."""
