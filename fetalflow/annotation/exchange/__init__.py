"""A file of another labelling program comes in, marks go out, and the other way: Label Studio, CVAT and COCO.

Each file has `write`, which gives the text of a file, and `read`, which gives the same marks again as far as the format
can say them. Pixels: in these formats 0 is the outer edge of the first pixel, in a mark it is the pixel's middle.
"""
