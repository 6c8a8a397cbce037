"""Workspaces: folders for runs, with settings that last, one lock, and a history in git and DVC."""
