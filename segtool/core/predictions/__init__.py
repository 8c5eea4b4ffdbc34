"""Prediction folders: masks, probabilities, and what is decided from them."""
