"""How far a label is from what models that never saw it predict, and what kind of mistake would explain it."""
