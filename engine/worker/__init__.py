"""The process that trains: the only part of the engine that imports torch."""
