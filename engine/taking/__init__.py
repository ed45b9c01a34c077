"""A trained run taken away: what other tools load. Pure parts here; the work is engine.worker.export's."""
