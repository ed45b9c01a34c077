"""How the database holds up: at scale, beside other trackers, in other physical shapes, with many writers."""
