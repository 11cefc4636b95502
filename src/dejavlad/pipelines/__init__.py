"""Whole tasks that the command and Python programs both call: evaluate a model, explain a ranking."""
