"""From images and runs to probabilities."""
