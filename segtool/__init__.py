"""segtool: a command-line toolbox for semantic segmentation competitions."""

__version__ = "0.1.0"
