"""Protocols by which an encoder is judged, and the page that shows the outcome."""

from .report import Report, ReportFigure, ReportTable

__all__ = ["Report", "ReportFigure", "ReportTable"]
