"""Backup and restore of what is neither in the objects nor made from them: settings, policy, audit, commitments."""
