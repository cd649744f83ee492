"""The object store contract and its backends."""
