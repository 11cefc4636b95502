"""How published datasets lie on disk: one file a format, each opens a `PlaceDataset`."""
