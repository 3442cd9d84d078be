"""Generated pictures, videos and sounds with questions about them: what a small model learns to see and hear from."""
