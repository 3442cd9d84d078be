"""The Realtime API: a connection, its session, input buffer, responses, and the model's runner."""
