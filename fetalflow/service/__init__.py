"""Requests over HTTP come in; answers of the models in use, and one row of each for the log, go out.

Doors: app, connections, desk, following, limits, served, tokens.
"""
