"""Frames come in one by one; an answer after every frame goes out."""
