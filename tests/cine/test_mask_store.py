"""Masks from a drop to the manifest: what cannot be used goes to quarantine, what can keeps its place and its bytes."""

import weakref
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from cine_files import sector_mask, speckle, write_video

import fetalflow.cine.mask_store
from fetalflow.artefacts import file_digest
from fetalflow.cine.field_of_view import as_text, of_text
from fetalflow.cine.letterbox import fit
from fetalflow.cine.mask_store import stored_mask
from fetalflow.errors import InputError
from fetalflow.sequences.extraction import extract_drop
from fetalflow.sequences.preprocessing import preprocess
from fetalflow.settings.params import Extract

T, HEIGHT, WIDTH, SIZE = 9, 96, 128, 64
HEADER = "video,patient,site,device,annotator,start_frame,end_frame,label,mask,hc_mm"
SETTINGS = Extract(frames=4, stride=4, workers=1)


def disc(frames: int = T, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """uint8 [frames, height, width], 1 in a disc that moves right by 3 px a frame."""
    y, x = np.mgrid[:height, :width]
    return np.stack([np.hypot(x - 40 - 3 * t, y - 50) < 20 for t in range(frames)]).astype(np.uint8)


class Delivery:
    """A drop of cines, each with a mask, and a store."""

    def __init__(self, folder: Path):
        self.folder, self.store, self.rows = folder / "drop", folder / "frames", []
        (self.folder / "masks").mkdir(parents=True)

    def add(self, name: str, mask: np.ndarray | bytes | None = None, told: str | None = None, length: str = "") -> None:
        write_video(self.folder / f"{name}.avi", speckle(T, HEIGHT, WIDTH, seed=len(self.rows)))
        self.put(name, disc() if mask is None else mask)
        told = f"masks/{name}.npz" if told is None else told
        self.rows.append(f"{name}.avi,P{len(self.rows)},s,d,A,,,head,{told},{length}")

    def put(self, name: str, mask: np.ndarray | bytes) -> None:
        path = self.folder / "masks" / f"{name}.npz"
        if isinstance(mask, bytes):
            path.write_bytes(mask)
        else:
            np.savez_compressed(path, mask=mask, calipers=np.ones((2, 2)))

    def extract(self, **changes):
        (self.folder / "annotations.csv").write_text("\n".join((HEADER, *self.rows)) + "\n")
        return extract_drop(self.folder, SETTINGS.model_copy(update=changes), self.store)

    def preprocess(self, sequences):
        return preprocess(sequences, self.store, self.folder.parent / "sequences", SIZE, workers=1)


@pytest.fixture
def delivery(tmp_path):
    made = Delivery(tmp_path)
    made.add("good", length="180.5")
    return made


def test_a_mask_goes_from_the_drop_to_the_manifest(delivery):
    delivery.add("bare", told="")
    found = delivery.extract()
    assert found.quarantine.empty and len(found.sequences) == 4
    digest = file_digest(delivery.folder / "masks" / "good.npz")
    assert list(found.sequences.mask_source) == ["", "", digest, digest]
    assert np.array_equal(stored_mask(digest, delivery.store), disc())
    manifest = delivery.preprocess(found.sequences)
    bare, good = manifest[manifest.mask_source == ""], manifest[manifest.mask_source != ""]
    assert (bare[["mask_path", "mask_digest", "sector"]] == "").all(axis=None) and set(good.hc_mm) == {"180.5"}
    for row in good.itertuples():
        file = delivery.folder.parent / row.mask_path
        mask = np.load(file)
        assert row.mask_path == f"masks/{row.sequence}.npy" and file_digest(file) == row.mask_digest
        assert mask.dtype == np.uint8 and mask.shape == (4, SIZE, SIZE) and set(np.unique(mask)) == {0, 1}
        y, x = np.nonzero(mask[1])  # half as large, 8 px of padding above
        centre = (40 + 3 * (row.first_frame + 1) + 0.5) / 2 - 0.5
        assert x.mean() == pytest.approx(centre, abs=0.2) and y.mean() == pytest.approx(32.75, abs=0.2)
        assert mask[1].sum() == pytest.approx(np.pi * 10**2, rel=0.04)
        seen = of_text(row.sector, SIZE)
        assert (seen == of_text(as_text(sector_mask(HEIGHT, WIDTH), SIZE), SIZE)).mean() > 0.9
    assert len(list((delivery.folder.parent / "masks").iterdir())) == 2


def test_what_has_a_length_has_a_sector_though_nobody_drew_it(delivery):
    delivery.add("long", told="", length="181")
    manifest = delivery.preprocess(delivery.extract().sequences)
    long, good = manifest[manifest.mask_source == ""], manifest[manifest.mask_source != ""]
    assert len(long) == 2 and (long.mask_path == "").all() and (good.sector != "").all()
    for text in long.sector:
        assert (of_text(text, SIZE) == of_text(as_text(sector_mask(HEIGHT, WIDTH), SIZE), SIZE)).mean() > 0.9


def test_a_drop_without_masks_gives_an_empty_folder_of_them(tmp_path):
    delivery = Delivery(tmp_path)
    delivery.add("bare", told="")
    manifest = delivery.preprocess(delivery.extract().sequences)
    assert set(manifest.mask_path) == {""} and not list((tmp_path / "masks").iterdir())


def test_the_masks_of_one_cine_are_unpacked_one_after_the_other(tmp_path, monkeypatch):
    delivery, masks, alive = Delivery(tmp_path), [disc(), disc()[:, ::-1], disc()[:, :, ::-1]], []
    write_video(delivery.folder / "a.avi", speckle(T, HEIGHT, WIDTH))
    for start, mask in zip((6, 0, 3), masks, strict=True):
        delivery.put(str(start), mask)
        delivery.rows.append(f"a.avi,P1,s,d,A,{start},{start + 2},head,masks/{start}.npz,")
    sequences = delivery.extract(frames=3).sequences

    def unpacked(source, store):
        alive.append(weakref.ref(mask := stored_mask(source, store)))
        assert sum(each() is not None for each in alive) <= 2, "the last one and this one"
        return mask

    monkeypatch.setattr("fetalflow.sequences.preprocessing.stored_mask", unpacked)
    delivery.preprocess(sequences)
    assert len(alive) == 3
    for start, mask in zip((6, 0, 3), masks, strict=True):
        (name,) = sequences.sequence[sequences.first_frame == start]
        kept = np.load(tmp_path / "masks" / f"{name}.npy")
        assert np.array_equal(kept, fit(255 * mask[start : start + 3], SIZE) >= 128)


BAD = {
    "missing": ({"told": "masks/none.npz"}, "the mask masks/none.npz is missing"),
    "no npz": ({"mask": b"no mask"}, "the mask cannot be used: masks/bad.npz is no npz file that can be read"),
    "of another size": ({"mask": disc(width=100)}, "is 9 frames of 100x96 pixels, its cine 9 frames of 128x96 pixels"),
    "of fewer frames": ({"mask": disc(8)}, "is 8 frames of 128x96 pixels, its cine 9 frames"),
    "of more frames": ({"mask": disc(10)}, "is 10 frames of 128x96 pixels"),
    "of one plane": ({"mask": disc()[0]}, r"is of shape \[96, 128\], its cine"),
    "empty": ({"mask": 0 * disc()}, "is empty"),
    "of objects": ({"mask": np.array([{}], dtype=object)}, "whole numbers or true and false, found object"),
    "of text": ({"mask": disc().astype("U9")}, "whole numbers or true and false, found text"),
    "of two classes": ({"mask": disc() + disc()[:, ::-1]}, "holds several classes .the values 1, 2.*column mask_class"),
    "of fractions": ({"mask": disc() / 2}, "whole numbers or true and false, found float64"),
}


@pytest.mark.parametrize(("changes", "reason"), BAD.values(), ids=BAD)
def test_a_bad_mask_sends_its_row_to_quarantine(delivery, changes, reason):
    delivery.add("bad", **changes)
    found = delivery.extract()
    assert list(found.quarantine.video) == ["bad.avi"] and list(found.quarantine.kind) == ["mask"]
    assert set(found.sequences.video) == {"good.avi"} and found.summary["rows_quarantined"] == 1
    assert found.quarantine.reason.str.fullmatch(f"line 3 of annotations.csv: .*{reason}.*")[0]
    assert str(delivery.folder) not in found.quarantine.reason[0]


def test_a_mask_without_its_key_and_one_that_claims_to_be_huge_are_refused(delivery):
    delivery.add("bad")
    np.savez(delivery.folder / "masks" / "bad.npz", other=disc())
    assert "expected the key `mask`, found other" in delivery.extract().quarantine.reason[0]
    huge = np.lib.stride_tricks.as_strided(np.zeros(1, np.uint8), (50_000, HEIGHT, WIDTH), (0, 0, 0))
    with zipfile.ZipFile(delivery.folder / "masks" / "bad.npz", "w") as made, made.open("mask.npy", "w") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(huge))
    assert "is 50000 frames of 128x96 pixels" in delivery.extract().quarantine.reason[0]


def test_a_picture_is_the_mask_of_one_frame_and_of_no_cine(delivery):
    drawn = cv2.circle(np.zeros((HEIGHT, WIDTH), np.uint8), (60, 50), 20, 255)
    for name in ("still", "cine"):
        cv2.imwrite(str(delivery.folder / "masks" / f"{name}.png"), drawn)
    delivery.add("cine", told="masks/cine.png")
    assert "is 1 frame of 128x96 pixels, its cine 9 frames" in delivery.extract().quarantine.reason[0]
    picture = speckle(1, HEIGHT, WIDTH)[0]
    cv2.imwrite(str(delivery.folder / "still.png"), picture)
    delivery.rows = ["still.png,P9,s,d,A,,,head,masks/still.png,"]
    (delivery.folder / "annotations.csv").write_text("\n".join((HEADER, *delivery.rows)) + "\n")
    found = extract_drop(delivery.folder, SETTINGS.model_copy(update={"frames": 1}), delivery.store)
    assert found.quarantine.empty and stored_mask(found.sequences.mask_source[0], delivery.store)[0, 50, 60] == 1
    assert found.summary["cines_without_a_row"] == ["cine.avi", "good.avi", "masks/cine.png"]


def test_rows_may_name_two_classes_of_one_file(delivery):
    classes = np.where(disc()[:, ::-1] > 0, 2, disc()).astype(np.uint8)
    delivery.add("both", mask=classes)
    (row,) = delivery.rows[1:]
    first, second = (row.replace("A,,,head", f"A,{span},{label}") for span, label in (("0,3", "head"), ("4,8", "arm")))
    delivery.rows = [delivery.rows[0] + ",", f"{first},1", f"{second},2"]
    (delivery.folder / "annotations.csv").write_text("\n".join((f"{HEADER},mask_class", *delivery.rows)) + "\n")
    found = extract_drop(delivery.folder, SETTINGS, delivery.store)
    assert found.quarantine.empty and found.summary["masks"] == {"as delivered": 3}
    used = found.sequences[found.sequences.video == "both.avi"].drop_duplicates("label").set_index("label")
    for label, value in (("head", 1), ("arm", 2)):
        assert np.array_equal(stored_mask(used.mask_source[label], delivery.store), classes == value)
    assert set(used.mask_done) == {"as delivered"}


def test_masks_are_read_again_only_when_they_changed_or_were_damaged(delivery, monkeypatch):
    first = delivery.extract().sequences
    read = []
    real = fetalflow.cine.mask_store.mask_of
    monkeypatch.setattr(
        fetalflow.cine.mask_store, "mask_of", lambda path, *how: read.append(path.name) or real(path, *how)
    )
    delivery.extract()
    assert read == []
    (stored,) = delivery.store.glob("*.mask.npz")
    good = stored.read_bytes()
    stored.write_bytes(good[:-1])
    assert delivery.extract().sequences.equals(first) and read == ["good.npz"] and stored.read_bytes() == good
    delivery.put("good", disc()[:, ::-1])
    assert set(delivery.extract().sequences.mask_source) != set(first.mask_source) and len(read) == 2


def test_a_flipped_bit_in_a_stored_mask_is_refused(delivery):
    sequences = delivery.extract().sequences
    (stored,) = delivery.store.glob("*.mask.npz")
    whole = bytearray(stored.read_bytes())
    whole[len(whole) // 2] ^= 1
    stored.write_bytes(whole)
    with pytest.raises(InputError, match=r"changed since extract wrote it; .*reads the mask again\.$"):
        delivery.preprocess(sequences)
    stored.unlink()
    with pytest.raises(InputError, match="missing or damaged"):
        delivery.preprocess(sequences)


def test_a_length_that_is_no_number_above_0_is_a_bad_row(delivery):
    delivery.add("bad", length="18 cm")
    found = delivery.extract()
    assert list(found.quarantine.kind) == ["row"] and "hc_mm must be a number above 0" in found.quarantine.reason[0]
