"""The head of a dossier that a test composes."""

HEAD = {"model": "M", "version": "1", "made": "2026-11-30T12:00:00+00:00", "fetalflow": "0", "commit": "0"}  # of a page
