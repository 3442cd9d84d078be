"""Full duplex: the engine that hears and speaks at once, for one conversation or many."""
