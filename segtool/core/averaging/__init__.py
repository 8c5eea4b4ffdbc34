"""Everything behind `segtool swa`: runs, their checkpoints, averages of weights."""
