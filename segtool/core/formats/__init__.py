"""File formats of other tools and competitions."""
