"""The checks of `segtool debug`."""
