"""Runs as other tools write them down: out to a TRL script or an Axolotl file, in from their YAML."""
