"""The console script, and `python -m segtool`, which is also what `torchrun -m segtool` starts."""

from segtool import stop


def main() -> None:
    """Run the app and leave with its exit status; signals are dealt with before its imports, which take a while."""
    stop.begin()
    from segtool.cli import main as run

    try:
        run()
    except SystemExit as ended:
        stop.end(ended.code if isinstance(ended.code, int) else 0)
        raise


if __name__ == "__main__":
    main()
