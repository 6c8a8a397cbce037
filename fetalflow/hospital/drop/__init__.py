"""A folder or zip of cines in any layout comes in; checked rows and their ground truth go out."""
