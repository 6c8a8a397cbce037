"""Manifest, sequences and split come in; a pass, or a stop that names the wrong rows, goes out.

Doors: drop_drift, gate, suites.
"""
