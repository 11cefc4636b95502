"""What matching points say of an answer: verified places, pairs and loops, and their probabilities."""
