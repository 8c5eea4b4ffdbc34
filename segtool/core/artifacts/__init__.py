"""What a command has finished or left unfinished: outputs, stamps, locks, shards."""
