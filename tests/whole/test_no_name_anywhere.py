"""The search for names that tests/whole/test_night.py makes after a night finds a name in every disguise."""

import base64
import json
import sqlite3
from urllib.parse import quote

import numpy as np
import pandas as pd
from name_search import FORMS, SECOND, WORDS, named_in


def test_the_search_finds_a_name_in_every_disguise(tmp_path):
    for number, form in enumerate(sorted(FORMS)):
        assert named_in(b"\0\xff" + form + b"\0"), number
    for word in WORDS:
        for before in ("", "a", "ab"):
            assert named_in(base64.b64encode((before + word + " and more").encode()))
            assert named_in(base64.b64encode((before + word).encode("latin-1")))
        assert named_in(json.dumps({"patient": word}).encode()) and named_in(quote(f"/in/{word}").encode())
    table = pd.DataFrame({"x": [f"of {SECOND}"] * 500})
    table.to_parquet(tmp_path / "a.parquet", compression="zstd")
    np.savez_compressed(tmp_path / "b.npz", name=np.array([SECOND.encode()] * 50))
    with sqlite3.connect(tmp_path / "c.db") as database:
        database.execute("create table t (x text)")
        database.execute("insert into t values (?)", (SECOND,))
    for path in tmp_path.iterdir():
        assert named_in(path.read_bytes()), path.name
    assert not named_in(b"nobody" + np.random.default_rng(0).bytes(1 << 20))
