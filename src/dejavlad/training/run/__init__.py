"""A run on disk: its folder, state, records, events and validation."""
