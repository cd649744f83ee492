"""FACE: where people and their programs come in: log in, sessions, share links, keys, explanations of the policy."""
