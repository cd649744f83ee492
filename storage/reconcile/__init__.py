"""Bringing bucket and index together: reindex, rows for objects that have none, removal of what was deleted."""

from storage.reconcile.orphans import adopt_orphans, purge
from storage.reconcile.readers import GARBAGE_THRESHOLD, OneReader, Readers, ReadingProcesses
from storage.reconcile.rebuilding import reindex
from storage.reconcile.report import Report
from storage.reconcile.worklist import Worklist

__all__ = [
    "GARBAGE_THRESHOLD",
    "OneReader",
    "Readers",
    "ReadingProcesses",
    "Report",
    "Worklist",
    "adopt_orphans",
    "purge",
    "reindex",
]
