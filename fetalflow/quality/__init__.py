"""Manifest, sequences and split come in; a pass, or a stop that names the wrong rows, goes out.

Doors: drift, drop_drift, duplicates, gate, suites.
"""
