"""Reports as one HTML file: of a run, or of several compared. It needs no network, no other file and no script to be read."""
