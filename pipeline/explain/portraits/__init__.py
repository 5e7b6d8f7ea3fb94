"""The classes that each attention head attends to, in numbers: tables, figures, a report."""
