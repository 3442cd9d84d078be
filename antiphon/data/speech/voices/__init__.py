"""Teachers' voices, behind one interface."""
