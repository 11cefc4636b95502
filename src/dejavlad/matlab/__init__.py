"""MATLAB's .mat files, read by hand: nothing in them is executed, and memory is bounded by a file's size."""
