"""Language models over speech and text: a causal LM whose vocabulary has the units of a tokenizer besides its text."""
