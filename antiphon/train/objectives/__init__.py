"""What is learnt: losses as small functions of what a model said, beside each other."""
