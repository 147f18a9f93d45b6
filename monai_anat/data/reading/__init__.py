"""Readers for DICOM, raster and volume files."""
