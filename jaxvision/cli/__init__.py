"""The command line: the top layer, which alone knows configs."""
