"""The address of the MLflow store: what is none is refused before any work, without its password."""

import pytest

from fetalflow.errors import InputError
from fetalflow.registry.address import EMBEDDED, require_store, tracking_uri

ADDRESSES = (
    *("http://127.0.0.1:5000", "https://user:secret@mlflow.example.org/path", "sqlite:////tmp/x/mlflow.db"),
    *("postgresql+psycopg2://u@host/db", "mysql://host/db", "databricks", "databricks://profile"),
)
NONE = (
    *(
        "nonsense",
        "./mlruns",
        "/srv/mlruns",
        "file:///srv/mlruns",
        "http://",
        "http:host:5000",
        "http://[::1",
        "foo://bar",
    ),
    *("user:secret@host:5000", "foo://user:secret@host", "localhost:5000", " http://host"),
)


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_of_a_store_is_taken_as_it_is(address, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    assert tracking_uri() == address


@pytest.mark.parametrize("address", NONE)
def test_what_is_no_address_is_refused_without_its_password(address, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    with pytest.raises(InputError, match="no address of an MLflow store. Set it to http://HOST:PORT") as refused:
        tracking_uri()
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("address", [EMBEDDED, "sqlite:///nowhere/other.db"])
def test_a_file_that_does_not_exist_is_no_store_and_is_not_made(address, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="no MLflow store here: .*db does not exist"):
        require_store(address)
    assert not list(tmp_path.iterdir())
