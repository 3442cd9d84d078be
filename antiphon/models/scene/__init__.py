"""What is heard besides the words: a network over an audio encoder's layers that names it."""
