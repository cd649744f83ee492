"""Bringing bucket and index together: reindex, rows for objects without one, removal of the deleted, verification."""

from storage.reconcile.erasing import Found, Patient, erase, find
from storage.reconcile.following import Follower
from storage.reconcile.orphans import adopt_orphans, purge
from storage.reconcile.quarantine import remove
from storage.reconcile.readers import OneReader, Readers, ReadingProcesses
from storage.reconcile.rebuilding import reindex
from storage.reconcile.report import Report
from storage.reconcile.sources import learn_sources
from storage.reconcile.verifying import Selection, Verification, find_without_row, verify
from storage.reconcile.worklist import Worklist

__all__ = [
    "Follower",
    "Found",
    "OneReader",
    "Patient",
    "Readers",
    "ReadingProcesses",
    "Report",
    "Selection",
    "Verification",
    "Worklist",
    "adopt_orphans",
    "erase",
    "find",
    "find_without_row",
    "learn_sources",
    "purge",
    "reindex",
    "remove",
    "verify",
]
