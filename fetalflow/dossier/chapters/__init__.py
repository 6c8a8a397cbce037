"""The folder of the evidence comes in; the chapters of a dossier go out.

Each module has `chapter(evidence)`, which reads the evidence and nothing else.
"""
