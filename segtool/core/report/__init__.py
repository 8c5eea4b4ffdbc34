"""One HTML file to look at: what `segtool report` writes."""
