"""The HTTP endpoints of the OpenAI API."""
