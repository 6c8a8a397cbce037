"""Every answer of a model in use comes in; a table by day, and what changed since the training, go out.

Doors: alerted, files, log, look, row.
"""
