"""Frames, size and classes come in; a network that classifies the standard plane goes out."""
