"""Pictures: into patches (`pictures`), out of videos (`video`), and what a vision tower makes of them (`tower`)."""
