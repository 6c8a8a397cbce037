"""A cine and the workspace's network come in; labels over time, where it looks, and what it measures go out."""
