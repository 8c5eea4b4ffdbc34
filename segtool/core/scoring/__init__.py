"""Scores and what they are made of: NumPy and OpenCV, never torch."""
