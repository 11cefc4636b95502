"""dejavlad: have I seen this place before? Visual place recognition with NetVLAD and Patch-NetVLAD."""

__version__ = "0.1.0"
