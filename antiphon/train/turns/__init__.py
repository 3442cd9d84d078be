"""Training the network that decides who has the floor."""
