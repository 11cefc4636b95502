"""What a training run reads: its photos, their descriptors and the frozen layers' maps."""
