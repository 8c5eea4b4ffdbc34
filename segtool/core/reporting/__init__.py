"""Tables, progress and pictures."""
