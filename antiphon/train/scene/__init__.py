"""The network that names what is heard: examples to batches, losses where labels are known, figures."""
