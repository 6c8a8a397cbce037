"""Rows and frames come in; sequences that fit the network, their manifest and their split go out.

Doors: extraction, manifest_columns, preprocessing, preview, split, unlabelled.
"""
