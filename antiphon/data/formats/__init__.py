"""Items as token sequences: what is read, what is learnt of it, and how much."""
