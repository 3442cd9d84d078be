"""What a speech language model knows: of words, grammar and endings, by likelihood; what it hears and says."""
