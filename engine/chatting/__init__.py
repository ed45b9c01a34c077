"""A chat with what a run has trained and its base: whoever holds it owns a `session.Session`, which owns the process that answers."""
