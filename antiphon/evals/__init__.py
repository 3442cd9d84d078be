"""What the models can do, measured: pure metrics, the judges that they need, and the tasks that put both together.

- `text`: word error rate, token F1, loops. `speech`: STOI, DNSMOS, log-mel distance. `judge`: Whisper as a listener.
- `figures`: a figure, a report of them as table, JSON and picture.
- `mini`: every figure of the mini model (`antiphon eval mini`).
"""
