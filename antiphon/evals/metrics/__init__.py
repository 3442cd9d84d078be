"""Pure metrics, and the models that some of them need."""
