"""Cases: reading the YAML files, checking them, choosing among them. Knows no target."""
