"""What a language model knows and can do: sets of texts, asked as lm-eval asks them, and code that is run."""
