"""The doctor: known ways in which training goes wrong, named before and while it runs."""
