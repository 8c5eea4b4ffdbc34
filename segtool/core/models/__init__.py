"""Models: building, losses, optimizers, schedules, checkpoints."""
