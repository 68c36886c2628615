"""HTML reports: a page for each run, and a page that compares several runs.

from jaxnn import report
report.write("runs/mine")      # writes runs/mine/report.html
"""

from jaxnn.report.compare import write_comparison
from jaxnn.report.page import write

__all__ = ["write", "write_comparison"]
