"""File formats of other tools and of competitions."""
