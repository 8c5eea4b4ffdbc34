"""One file per command: read files → core → write files. Only commands (through their result) print."""
