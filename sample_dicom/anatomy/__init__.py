"""A synthetic head, defined in millimetres, that any modality can sample on its own grid."""
