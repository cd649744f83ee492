"""The audit trail: every decision on a line, before it is carried out."""
