"""A network and test sequences come in; maps and outlines, and how well they find the anatomy, go out."""
