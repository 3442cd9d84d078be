"""What the half-duplex assistant can do: hearing, answers, speaking, speed."""
