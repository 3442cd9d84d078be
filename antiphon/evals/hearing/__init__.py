"""What a model hears besides the words, and whether it minds it (`antiphon eval hearing`)."""
