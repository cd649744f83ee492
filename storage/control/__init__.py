"""Control state: what administrators make and processes share that is no archive, such as keys, users and shares.

It outlives the index, which a reindex makes anew, and has its own backup.
"""
