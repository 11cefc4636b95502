"""Which photos make a batch: tuples of a query, positive and negatives, or photos of places."""
