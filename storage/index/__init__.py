"""The index contract and its backends."""
