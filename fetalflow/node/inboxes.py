"""Where deliveries go and are read again: a folder, or a place behind a URL such as s3://bucket/folder.

A folder gets a delivery by one renaming. An object store has none: the tables come first, then the cines, then the
marker. The intake lets a delivery wait whose rows name files that are not there, so half of one is never taken.
"""

from collections.abc import Sequence
from pathlib import Path

from fetalflow.errors import InputError
from fetalflow.hospital.arrival.inbox import file_system, is_url, without_password
from fetalflow.hospital.deidentify.files import CINES
from fetalflow.settings.node import Rule
from fetalflow.settings.params import Settings


def inbox_of(rule: Rule, settings: Settings) -> str:
    """The folder or URL that deliveries of a rule go to. Raises InputError where it is not set, no folder, or a URL
    that no installed package opens."""
    inbox = rule.inbox or settings.block(rule.task).retrain.inbox
    if inbox and is_url(inbox):
        file_system(inbox)
    elif not inbox or not Path(inbox).is_dir():
        raise InputError(
            f"the node needs an inbox for the deliveries of {rule.task}, found {inbox or 'none'!r}. Make the folder, "
            f"and name it as `inbox` of the rule or as {rule.task}.retrain.inbox; or name a URL, such as "
            "s3://bucket/folder."
        )
    return inbox


def is_delivered(inbox: str, name: str, marker: str) -> bool:
    """Whether a delivery is whole behind a URL. Raises OSError when the store gives no answer."""
    store, root = file_system(inbox)
    try:
        store.invalidate_cache()
        return bool(store.exists(f"{root}/{name}/{marker}"))
    except Exception as error:  # each kind of store raises errors of different classes
        raise _no_answer(inbox, error) from error


def put(inbox: str, name: str, folder: Path, marker: str) -> None:
    """Copy a whole delivery from a folder to a URL. What a killed call left is written again, with the same content.

    Raises OSError when the store does not take it; then it has no marker.
    """
    store, root = file_system(inbox)
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    try:
        for path in sorted(files, key=lambda each: (each == marker, each.startswith(f"{CINES}/"))):
            store.put_file(str(folder / path), f"{root}/{name}/{path}")
    except Exception as error:  # each kind of store raises errors of different classes
        raise _no_answer(inbox, error) from error


def local_files(inbox: str, paths: Sequence[str], scratch: Path) -> list[Path]:
    """Those of `paths` (delivery/file) that are in the inbox; from a URL they are copied into `scratch`.

    Raises OSError when the store gives no answer.
    """
    if not is_url(inbox):
        return [each for path in paths if (each := Path(inbox, path)).is_file()]
    store, root = file_system(inbox)
    found = []
    for path in paths:
        local = scratch / path
        local.parent.mkdir(parents=True, exist_ok=True)
        try:
            store.get_file(f"{root}/{path}", str(local))
        except FileNotFoundError:
            continue
        except Exception as error:  # each kind of store raises errors of different classes
            raise _no_answer(inbox, error) from error
        found.append(local)
    return found


def _no_answer(inbox: str, error: Exception) -> OSError:
    """Without the words of the error, which may quote a key or a name."""
    return OSError(
        f"the inbox {without_password(inbox)} does not take or give files ({type(error).__name__}). Check the network, "
        "and for S3 the variables AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY. The next round tries "
        "again."
    )
