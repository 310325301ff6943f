"""Transforms: one raw record becomes one example of the network's size, on the host."""
