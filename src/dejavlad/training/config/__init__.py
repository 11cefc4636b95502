"""Options of a training, recipes by name, and the original's names for them."""
