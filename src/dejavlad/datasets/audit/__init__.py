"""Whether a dataset is whole: its counts, its files, and photos that are in both lists."""
