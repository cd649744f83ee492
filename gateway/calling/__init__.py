"""Peers, and the gateway itself, asked by a person at the command line or at the console."""
