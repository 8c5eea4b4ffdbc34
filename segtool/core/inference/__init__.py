"""From images to probabilities."""
