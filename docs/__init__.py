"""The documents, and the generator of their parts that come from the code."""
