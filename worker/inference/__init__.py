"""The model at work: its file, its input and the session that runs it."""
