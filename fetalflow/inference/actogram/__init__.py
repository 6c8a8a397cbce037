"""The frames of a long cine come in; what moved, when, how long and how fast goes out, with what cannot be said."""
