"""A request comes in, a page or JSON goes out: each file has a `router`, which app.py includes."""
