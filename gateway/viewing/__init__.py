"""De-identified views: what one is, how an instance comes into it, and how it keeps up with the archive."""
