"""One file a subcommand, found by its file name and imported only when called."""
