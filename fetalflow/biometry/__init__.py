"""A mask in pixels comes in; lengths in mm, weeks and grams go out, or the reason why there is none.

Doors: calipers, clip, drawing, estimates, growth, measuring, outline, structures.
"""
