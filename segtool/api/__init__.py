"""The Python interface: what `import segtool` gives, made of the same parts as the commands."""
