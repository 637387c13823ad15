"""Cases: reading the YAML files and checking them. Knows no target."""
