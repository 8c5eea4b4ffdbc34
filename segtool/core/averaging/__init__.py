"""Everything behind `segtool swa`: finished runs, their checkpoints, and averages of weights."""
