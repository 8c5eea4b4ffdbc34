"""Optimizers, learning rates, moving averages of weights."""
