"""The ledger of experiments: runs held against a baseline."""
