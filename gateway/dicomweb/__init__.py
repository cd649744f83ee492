"""The DICOMweb face: QIDO-RS, WADO-RS and STOW-RS (PS3.18 chapters 8 and 10)."""
