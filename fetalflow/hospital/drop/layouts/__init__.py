"""The file names of a drop come in; the layout that they have, and its rows, go out."""
