"""The audit trail: every decision on a line before it is carried out, chained, signed, checked, searched, sent on."""
