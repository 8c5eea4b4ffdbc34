"""Masks in, scores out: NumPy and OpenCV, never torch."""
