"""Pictures: what the files say, splits that do not meet, and what is wrong with a file."""

import ast
import gzip
import hashlib
import io
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest

from resonant.errors import UserError
from resonant.lab.domains import describe as describe_data
from resonant.lab.kit.download import Remote
from resonant.lab.vision import images as images_module
from resonant.lab.vision.config import ImagesConfig
from resonant.lab.vision.files import read_cifar, read_idx
from resonant.lab.vision.images import describe, load_images


def idx(array: np.ndarray) -> bytes:
    header = struct.pack(f">2xBB{array.ndim}I", 8, array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


def archive(members: dict[str, bytes], folder: str = "cifar-10-batches-bin") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as opened:
        for name, content in members.items():
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size = len(content)
            opened.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def records(count: int, seed: int = 0) -> bytes:
    generator = np.random.default_rng(seed)
    made = generator.integers(0, 256, (count, 3073), dtype=np.uint8)
    made[:, 0] = np.arange(count) % 10
    return made.tobytes()


def test_digits_are_scikit_learn_s_in_splits_of_their_own() -> None:
    loaded = load_images(ImagesConfig())
    sizes = {split: len(each) for split, each in loaded.splits.items()}
    assert sizes == {"train": 1197, "valid": 300, "test": 300}
    seen = [each.take(range(len(each))).reshape(len(each), -1) for each in loaded.splits.values()]
    distinct = {row.tobytes() for rows in seen for row in rows}
    assert len(distinct) == 1797
    assert {int(rows.max()) for rows in seen} == {255}
    assert all(len(set(each.labels.tolist())) == 10 for each in loaded.splits.values())
    assert describe_data(ImagesConfig(), None).digest == loaded.digest
    assert loaded.digest[:12] in describe(loaded, ImagesConfig())


def test_pooling_takes_means() -> None:
    whole = load_images(ImagesConfig()).splits["test"].take([3])[0, 0].astype(float)
    pooled = load_images(ImagesConfig(pool=2)).splits["test"].take([3])[0, 0]
    assert pooled.shape == (4, 4)
    assert pooled[1, 2] == round(whole[2:4, 4:6].mean())


def test_idx_reads_back() -> None:
    array = np.arange(24).reshape(2, 3, 4)
    assert (read_idx(idx(array), "file") == array).all()
    assert read_idx(idx(np.arange(5)), "file").shape == (5,)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "no IDX file of bytes .*nothing"),
        (b"\x89PNG....", "no IDX file of bytes .*begins with 89504e47"),
        (idx(np.zeros((2, 3)))[:9], "cut short in its header"),
        (idx(np.zeros((2, 3)))[:-1], "holds 2 x 3 = 6 bytes, but 5 follow"),
        (idx(np.zeros((2, 3))) + b"!", "but 7 follow"),
        (b"\0\0\x08\0!", "says it has 0 axes"),
        (b"\0\0\x08\xff" + b"\0\0\0\x01" * 255 + b"!", "says it has 255 axes"),
        (b"\0\0\x08\x04" + b"\0\x01\0\0" * 4, "65536 = 18446744073709551616 bytes, but 0 follow"),
    ],
)
def test_wrong_idx_files(content: bytes, says: str) -> None:
    with pytest.raises(UserError, match=rf"train-images.*{says}"):
        read_idx(content, "train-images")


def test_records_of_cifar() -> None:
    content = archive({"a.bin": records(7), "b.bin": records(4, seed=1)})
    pixels, labels = read_cifar(content, ("a.bin", "b.bin"), "archive")
    assert pixels.shape == (11, 3, 32, 32)
    assert labels.tolist() == [0, 1, 2, 3, 4, 5, 6, 0, 1, 2, 3]
    raw = np.frombuffer(records(7), np.uint8).reshape(7, 3073)
    assert pixels[2, 1, 5, 6] == raw[2, 1 + 1024 + 5 * 32 + 6]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"no archive", "no archive of CIFAR-10's binary version"),
        (archive({"a.bin": records(2)})[:-2000], "no archive of CIFAR-10's binary version"),
        (archive({"data_batch_1": b"pickled"}), "no archive of CIFAR-10's binary version"),
        (archive({"a.bin": records(2)[:-1]}), "not whole records of 3073"),
        (archive({"a.bin": b""}), "not whole records"),
        (archive({"a.bin": b"\x0b" + records(1)[1:]}), "holds the label 11"),
    ],
)
def test_wrong_archives(content: bytes, says: str) -> None:
    with pytest.raises(UserError, match=says):
        read_cifar(content, ("a.bin",), "cifar-10-binary.tar.gz")


def test_nothing_here_unpickles() -> None:
    room = Path(images_module.__file__).parent
    for path in room.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            assert "pickle" not in names, path
            assert not (isinstance(node, ast.keyword) and node.arg == "allow_pickle"), path


def test_files_of_a_folder_are_held_to_their_hashes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = archive(
        {
            "data_batch_1.bin": records(20, 1),
            "data_batch_2.bin": records(20, 2),
            "test_batch.bin": records(10, 3),
        }
    )
    unpacked = hashlib.sha256(gzip.decompress(content)).hexdigest()
    ours = Remote("cifar10-subset", "subset.tar.gz", "", unpacked)
    monkeypatch.setattr(images_module, "CIFAR10_SUBSET", ours)
    (tmp_path / "subset.tar.gz").write_bytes(content)
    config = ImagesConfig("cifar10-subset")
    load_images.cache_clear()
    loaded = load_images(config, tmp_path)
    assert [len(loaded.splits[s]) for s in ("train", "valid", "test")] == [36, 4, 10]
    assert loaded.classes[6] == "frog"
    load_images.cache_clear()
    (tmp_path / "subset.tar.gz").write_bytes(archive({"data_batch_1.bin": records(1)}))
    with pytest.raises(UserError, match="is not cifar10-subset"):
        load_images(config, tmp_path)
    (tmp_path / "subset.tar.gz").write_bytes(content[:-900])
    with pytest.raises(UserError, match="is damaged"):
        load_images(config, tmp_path)
    with pytest.raises(UserError, match="no address to be downloaded from"):
        load_images(config, None)
    with pytest.raises(UserError, match=r"does not hold mnist.*train-images"):
        load_images(ImagesConfig("mnist"), tmp_path)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"name": "digit"}, "data.name is one of"),
        ({"augment": "more"}, "data.augment is one of"),
        ({"name": "images"}, "belong together"),
        ({"path": "x"}, "belong together"),
        ({"levels": 1}, "2 to 256"),
        ({"pool": 3}, "must divide the 8 pixels"),
        ({"size": 64}, "data.size is for pictures of your own"),
        ({"name": "images", "path": "x", "size": -1}, "data.size must be at least 1, or 0"),
    ],
)
def test_refusals_of_configurations(options: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        ImagesConfig(**options)
