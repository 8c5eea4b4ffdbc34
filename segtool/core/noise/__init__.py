"""How strongly a label disagrees with models that never saw it, and which mistake would explain that."""
