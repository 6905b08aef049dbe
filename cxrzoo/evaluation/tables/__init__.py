"""A table of labels: what it says, whose the images are, and what is refused."""

from cxrzoo.evaluation.tables.table import LabelTable, read_table, table_of_arrays

__all__ = ["LabelTable", "read_table", "table_of_arrays"]
