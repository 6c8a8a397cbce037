"""A move of an alias comes in; a line of the hash-chained record goes out."""
