"""Who may come in, and how many: keys, origins, connections."""
