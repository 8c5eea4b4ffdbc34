"""A detector that learns to locate the objects in masks, and finds them in other images."""
