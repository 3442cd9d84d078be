"""A server for live conversations: the OpenAI clients' endpoints, Moshi's WebSocket, and a page to talk to."""
