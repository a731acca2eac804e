"""The dialect itself, in Python: values and their order, paths, filters, updates. Knows no database."""
