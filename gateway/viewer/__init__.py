"""OHIF on the gateway's own origin: its files are fetched once, and configured for the place that serves them."""
