"""Crops around objects, and putting their predictions together."""
