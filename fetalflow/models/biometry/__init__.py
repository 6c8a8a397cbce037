"""Frames, size and classes come in; a network that segments and labels head, abdomen or femur goes out."""
