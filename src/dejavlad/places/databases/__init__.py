"""A map in a vector database (LanceDB, Qdrant): one protocol, columns, rows in batches."""
