"""Networks: building, weights, checkpoints, bundles."""
