"""A dossier is signed; any changed, added or removed byte shows, and nobody else's signature counts."""

import shutil
import subprocess

import pytest
from typer.testing import CliRunner

from fetalflow.artefacts import file_digest, read_json, write_json
from fetalflow.dossier import signing
from fetalflow.dossier.composing import JSON, PAGE, PDF
from fetalflow.dossier.signing import DOSSIER, PACKAGE, Reader, Signer, make_key, sign, signer_in_words
from fetalflow.dossier.verifying import verify
from fetalflow.errors import InputError
from flows.cli.app import app


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    for name in ("maker", "other"):
        make_key(folder / name)
    return folder


@pytest.fixture(scope="module")
def signed(dossier, keys, tmp_path_factory):
    """The dossier of a champion with signatures. It is read only: `copy` gives one that a test may change."""
    folder = shutil.copytree(dossier, tmp_path_factory.mktemp("signed") / "dossier")
    sign(folder, Signer(keys / "maker"))
    return folder


@pytest.fixture
def copy(signed, tmp_path):
    return shutil.copytree(signed, tmp_path / "dossier")


def problems(folder, keys, name="maker.pub"):
    return verify(folder, Reader(keys / name))[0]


def shows(folder, keys):
    try:
        return bool(problems(folder, keys))
    except InputError as error:  # dossier.json is no JSON any more
        return JSON in str(error)


def test_what_nobody_touched_fits_its_signature(signed, keys):
    assert verify(signed, Reader(keys / "maker.pub")) == ([], [])


def test_any_changed_byte_shows(copy, signed, keys):
    names = sorted(path.relative_to(signed).as_posix() for path in signed.rglob("*") if path.is_file())
    assert {JSON, PAGE, DOSSIER, PACKAGE, "evidence/run/metrics.json", "package/config.json"} <= set(names)
    kinds = {
        name.rpartition("/")[0] + name.rpartition(".")[2]: name for name in names
    }  # one file of each kind and folder
    for name in kinds.values():
        content = (signed / name).read_bytes()
        (copy / name).write_bytes(content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])
        assert shows(copy, keys), f"a changed byte of {name} does not show"
        (copy / name).write_bytes(content)
    assert not problems(copy, keys)


@pytest.mark.parametrize(
    "name", ["evidence/run/metrics.json", PDF, PAGE, DOSSIER, PACKAGE, "package/model.safetensors"]
)
def test_a_removed_file_is_named(copy, keys, name):
    if not (copy / name).is_file():
        pytest.skip("no Chromium: apt-get install chromium")
    (copy / name).unlink()
    assert any(text.startswith(f"{name} is missing") for text in problems(copy, keys))


@pytest.mark.parametrize("name", ["note.txt", "package/more.bin", "evidence/run/new.json", ".git/config", ".hidden"])
def test_an_added_file_is_named(copy, keys, name):
    (copy / name).parent.mkdir(exist_ok=True)
    (copy / name).write_text("x")
    assert f"{name} does not belong to this dossier." in problems(copy, keys) or any(
        name.split("/")[-1] in text for text in problems(copy, keys)
    )


def test_a_link_to_a_folder_is_named(copy, tmp_path):
    (copy / "evidence" / "more").symlink_to(tmp_path)
    assert verify(copy)[0] == ["evidence/more does not belong to this dossier."]


@pytest.mark.parametrize("content", ["{}", "[]", '{"events": 3, "cases": {"a": 1}, "why": "", "components": [{}]}'])
def test_evidence_that_lost_its_form_is_a_problem_and_no_traceback(copy, content):
    """The forger changes the digest in the JSON file as well."""
    for name in ("promotions.json", "watch.json", "sbom.json"):
        (copy / "evidence" / name).write_text(content)
        stated = read_json(copy / JSON)
        stated["evidence"][name] = file_digest(copy / "evidence" / name)
        write_json(copy / JSON, stated)
        assert any("evidence" in text for text in verify(copy)[0])


@pytest.mark.parametrize(("old", "new"), [(b"</body>", b"</body>\xff"), (b"\n", b"\r\n")], ids=["bytes", "ends"])
def test_a_page_with_other_bytes_shows_without_the_signature_too(copy, old, new):
    (copy / PAGE).write_bytes((copy / PAGE).read_bytes().replace(old, new))
    assert verify(copy)[0] == [f"{PAGE} is not what the evidence says."]


def test_what_does_not_fit_is_said_in_words(copy, keys):
    config = copy / "package/config.json"
    config.write_text(config.read_text() + " ")
    said = " ".join(problems(copy, keys))
    assert "since it was signed: config.json" in said and "Digest(" not in said
    assert any("made with another key" in text for text in problems(copy, keys, "other.pub"))


def test_a_better_figure_is_found_without_the_signature_too(copy, keys):
    """A forger changes a figure in the JSON file and in the page: the evidence does not say so."""
    content = read_json(copy / JSON)
    text = str(content)
    figures = [b for c in content["chapters"] for b in c["blocks"]]
    assert figures and text
    content["chapters"][0]["title"] = "Better"
    write_json(copy / JSON, content)
    assert verify(copy)[0] == [f"{JSON} is not what the evidence says."]
    assert any(DOSSIER in text for text in problems(copy, keys))


def test_a_forger_who_makes_everything_again_has_another_key(copy, keys):
    metrics = copy / "evidence/run/metrics.json"
    metrics.write_text(metrics.read_text().replace("0.", "0.9", 1))
    content = read_json(copy / JSON)
    content["evidence"]["run/metrics.json"] = file_digest(metrics)
    write_json(copy / JSON, content)
    for name in (DOSSIER, PACKAGE):
        (copy / name).unlink()
    sign(copy, Signer(keys / "other"))
    found = problems(copy, keys)
    assert any(DOSSIER in text for text in found) and any(PACKAGE in text for text in found)
    assert any("not what the evidence says" in text for text in verify(copy, None)[0])


def test_a_certificate_signs_and_a_stranger_is_not_trusted(dossier, tmp_path):
    """A hospital's certificate, issued by its authority. Nothing is asked over a network."""
    authority, leaf = issued(tmp_path, "authority"), issued(tmp_path, "leaf", by="authority")
    folder = shutil.copytree(dossier, tmp_path / "dossier")
    sign(folder, Signer(tmp_path / "leaf.key", leaf, [authority]))
    assert verify(folder, Reader(chain=[authority])) == ([], [signer_in_words(folder)])
    assert "CN=leaf" in signer_in_words(folder)
    stranger = issued(tmp_path, "stranger")
    assert any(DOSSIER in text for text in verify(folder, Reader(chain=[stranger]))[0])


def test_the_certificate_of_a_web_server_signs_no_dossier(tmp_path, monkeypatch):
    """The hospital's authority issues many certificates; model-signing alone would accept each of them."""
    issued(tmp_path, "authority")
    server = Signer(tmp_path / "server.key", issued(tmp_path, "server", "authority", "serverAuth"))
    folder = tmp_path / "dossier"
    (folder / "package").mkdir(parents=True)
    with pytest.raises(InputError, match="no certificate for code signing"):
        sign(folder, server)
    with monkeypatch.context() as patch:  # as a forger does it
        patch.setattr(signing, "_require_for_code", lambda path: None)
        sign(folder, server)
    found = signing.signature_problems(folder, Reader(chain=[tmp_path / "authority.pem"]))
    assert len(found) == 2 and all("CN=server is no certificate for code signing" in text for text in found)
    sign(folder, Signer(tmp_path / "leaf.key", issued(tmp_path, "leaf", "authority")))  # without a chain
    assert not signing.signature_problems(folder, Reader(chain=[tmp_path / "authority.pem"]))
    with pytest.raises(InputError, match="is no certificate as PEM"):
        sign(folder, Signer(tmp_path / "server.key", tmp_path / "server.key"))


def issued(folder, name, by=None, usage="codeSigning"):
    """A certificate made with the openssl program, as an operator makes it."""
    key, request, certificate = (folder / f"{name}.{end}" for end in ("key", "csr", "pem"))
    run = lambda *words: subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)  # noqa: E731
    run("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key)
    subject = ("-subj", f"/CN={name}", "-key", key)
    if by is None:
        usage = ("-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign")
        run("req", "-x509", "-new", "-days", 30, *subject, *usage, "-out", certificate)
        return certificate
    run("req", "-new", *subject, "-out", request)
    extensions = folder / f"{name}.ext"
    extensions.write_text(f"keyUsage=critical,digitalSignature\nextendedKeyUsage={usage}\nbasicConstraints=CA:FALSE\n")
    signed_by = ("-CA", folder / f"{by}.pem", "-CAkey", folder / f"{by}.key", "-CAcreateserial", "-days", 20)
    run("x509", "-req", "-in", request, *signed_by, "-extfile", extensions, "-out", certificate)
    return certificate


def test_keys_are_for_their_owner_and_are_never_overwritten(keys):
    assert (keys / "maker").stat().st_mode & 0o077 == 0
    before = (keys / "maker").read_bytes()
    with pytest.raises(InputError, match="Choose another file"):
        make_key(keys / "maker")
    assert (keys / "maker").read_bytes() == before


@pytest.mark.parametrize("content", ["", "no key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_what_is_no_key_is_a_message(copy, tmp_path, content):
    (tmp_path / "bad").write_text(content)
    with pytest.raises(InputError, match="fetalflow dossier key FILE"):
        sign(copy, Signer(tmp_path / "bad"))
    with pytest.raises(InputError, match="Expected a public key"):
        verify(copy, Reader(tmp_path / "bad"))


def test_the_commands_say_what_was_found(signed, copy, keys):
    done = CliRunner().invoke(app, ["dossier", "verify", str(signed), "--key", str(keys / "maker.pub")])
    assert done.exit_code == 0 and "is as it was signed" in done.output
    done = CliRunner().invoke(app, ["dossier", "verify", str(signed)])
    assert done.exit_code == 1 and "signatures were not checked" in done.output
    done = CliRunner().invoke(app, ["dossier", "verify", str(copy), "--key", str(keys / "other.pub")])
    assert done.exit_code == 1 and "WRONG" in done.output
    for words in (["verify", str(keys)], ["verify", str(signed), "--key", "nowhere"], ["key", str(keys / "maker")]):
        assert isinstance(CliRunner().invoke(app, ["dossier", *words]).exception, InputError)
