"""One batch: forward, loss, backward, and the optimiser's step."""
