"""How a model takes turns: test cases, simulated dialogues, and their metrics."""
