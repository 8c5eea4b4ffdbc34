"""Data sets: images and masks, folds, and the images that a model trains on or has seen."""
