"""Matching patches drawn into pixels: the figure of a pair, and a video of frames."""
