"""What a model sees, hears and tells of generated pictures, videos and sounds."""
