"""Measure how strongly a label disagrees with models that were not trained on it, and which mistake explains it."""
