"""Who has the floor: a small causal network that decides it twelve and a half times a second."""
