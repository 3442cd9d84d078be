"""What can be measured: our models, those of others, and endpoints."""
