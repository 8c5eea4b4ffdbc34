"""Which images there are, and which of them a model trains on or has seen."""
