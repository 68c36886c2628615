"""Reports: a page for every run, and one that compares several."""

from jaxnn.report.page import write

__all__ = ["write"]
