"""Exports of de-identified views: which studies, and how their instances get to a directory, ZIP, bucket or peer."""
