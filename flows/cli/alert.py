"""`fetalflow alert`: where alerts go, and whether they arrive."""

import sys
from typing import Annotated

import typer

from fetalflow.errors import InputError


def alert(
    test: Annotated[bool, typer.Option("--test", help="Send a test there; exit with 1 if an address fails.")] = False,
) -> None:
    """Show where alerts go, or send a test there. FETALFLOW_ALERTS has addresses of Apprise, FETALFLOW_ALERTS_FILE
    names a file with one a line."""
    from flows.nights.alerts import TEXTS, VARIABLE, VARIABLE_FILE, Alert, addresses, checked, scheme, send

    to = checked(addresses())
    if not to:
        raise InputError(
            f"nobody gets alerts. Set {VARIABLE} to an address of Apprise, such as mailtos://user:password@host, or "
            f"{VARIABLE_FILE} to a file with one address a line. Both are secrets: never put them into params.yaml."
        )
    if not test:
        print("\n".join([f"Alerts go to: {', '.join(map(scheme, to))}", *sorted(TEXTS)]))
        return
    failed = send(Alert("test"), to)
    for address in to:
        print(f"{'FAILED' if address in failed else 'sent':<7} {scheme(address)}")
    if failed:
        sys.exit("fetalflow: the messages above that say FAILED did not leave. Check address, password and network.")
