"""Import: instances from directories, file-sets, ZIPs and other systems' buckets go to the ingest service."""
