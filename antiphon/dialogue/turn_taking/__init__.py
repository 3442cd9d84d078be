"""Who has the floor while both hear each other: one protocol, by silence, by a turn detector, by a trained network."""
