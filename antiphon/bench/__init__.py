"""How fast the parts are, as a ratio against a named peer or a physical limit, in one run."""
