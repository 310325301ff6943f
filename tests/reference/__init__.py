"""Slow numpy references: plain loops, float64, obviously right."""
