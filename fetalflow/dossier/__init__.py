"""What is on record about one version of a model comes in; a signed folder for a regulator or a reviewer goes out.

Doors: composing, signing, statements, verifying, writing.
"""
