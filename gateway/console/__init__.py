"""The console: pages for people, made in the browser from what the DICOMweb face answers."""
