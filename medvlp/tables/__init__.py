"""Reading of tables of text, whatever their separator, encoding and packing.

Nothing here knows what a table is about: a file on one format, or on what all formats share.
"""

from medvlp.tables.columns import find_column
from medvlp.tables.records import read_records
from medvlp.tables.separated import SkipRow
from medvlp.tables.table import column_names, read_all, read_lines, read_table
from medvlp.tables.text import decode

__all__ = ["SkipRow", "column_names", "decode", "find_column", "read_all", "read_lines", "read_records", "read_table"]
