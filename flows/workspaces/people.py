"""Who works here, for the records that name a person."""

import getpass
import os
import socket

VARIABLE = "FETALFLOW_USER"  # a person's name where several people share an account, such as in a container


def this_person() -> str:
    """FETALFLOW_USER, else `user@host`."""
    if name := " ".join(os.environ.get(VARIABLE, "").split()):
        return name
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a user without a name, in a container
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"
