"""Use cases without protocol: what the archive does for whoever asks, over whatever protocol."""
