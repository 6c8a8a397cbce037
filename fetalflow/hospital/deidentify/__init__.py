"""A drop with names comes in; it goes out with pseudonyms, moved dates, clean headers and masked pixels."""
