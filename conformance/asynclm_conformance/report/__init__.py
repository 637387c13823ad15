"""Reports of the conformance suite: pure functions of records, in four forms, and what has changed between two.

May import `asynclm_conformance.names`, `.requirements`, `.verdict` and the generated messages; nothing that plays or
judges. The command line imports it.
"""

from asynclm_conformance.report.diff import Diff, compare
from asynclm_conformance.report.record import RecordError, RecordWriter, Run, read
from asynclm_conformance.report.writing import Format, ReportError, write

__all__ = ["Diff", "Format", "RecordError", "RecordWriter", "ReportError", "Run", "compare", "read", "write"]
