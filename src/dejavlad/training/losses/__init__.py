"""Losses: the weakly supervised ranking loss of tuples, and multi-similarity of places."""
