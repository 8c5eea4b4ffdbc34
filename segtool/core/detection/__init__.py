"""A detector that learns where the objects of the masks are, and finds them in other images."""
