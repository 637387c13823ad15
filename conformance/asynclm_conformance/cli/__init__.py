"""The command line. May import everything of the package; nothing imports it."""
