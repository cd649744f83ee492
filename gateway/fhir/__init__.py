"""The FHIR R4 face: the audit trail as AuditEvent resources."""
