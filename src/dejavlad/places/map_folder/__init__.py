"""A map on this machine's disk: state, rows, index; one writer, many readers."""
