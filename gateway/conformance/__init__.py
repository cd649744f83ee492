"""The conformance kit: what PS3.18 asks of a DICOMweb server, claim by claim, asked of any server over HTTP."""
