"""Small formats read under limits: JSON, TOML, NumPy's, zip archives, HDF5 and plain files.

Whatever a file says, its reader raises one of two errors: `OSError`, where the system cannot read it, or
`dejavlad.errors.MalformedFileError` (a `ValueError`), whose text is the reason alone; the caller adds the
path and what the file should have been. Only regular files are opened (a pipe would wait for ever), sizes
that a file declares are compared with its own before memory is taken, and nothing in it is executed. No other
module of the package calls ``json.loads``, ``tomllib``, ``numpy.load``, ``zipfile`` or ``h5py.File``; a test
holds it to that.
"""
