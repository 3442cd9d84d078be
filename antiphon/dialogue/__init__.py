"""A live conversation: what happens in a turn, and sessions that take microphone audio in and give speaker audio
out.
"""
