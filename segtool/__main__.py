"""`python -m segtool`, which is also what `torchrun -m segtool` starts."""

from segtool.cli import main

main()
