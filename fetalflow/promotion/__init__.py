"""Challenger, champion and held-out patients come in; a verdict with its page, and a moved alias, go out.

Doors: approval, comparison, page, simulation, verdict, version_page.
"""
