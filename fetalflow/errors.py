"""What the library raises when its input is at fault."""


class InputError(ValueError):
    """A person can mend this: the message names the file or row, what was expected, what was found, and what to do."""
