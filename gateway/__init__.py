"""The imaging gateway: faces, services, access, audit and imaging."""
