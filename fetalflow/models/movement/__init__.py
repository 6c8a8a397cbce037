"""Frames, size and classes come in; a network that classifies the moving anatomy goes out."""
