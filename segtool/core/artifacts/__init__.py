"""Finished and unfinished outputs of commands: stamps, locks and shards."""
