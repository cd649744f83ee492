"""What the HTTP faces share: the application, callers, errors, crossing into threads."""
