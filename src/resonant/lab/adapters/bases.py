"""Small Llama, Qwen2 and Qwen3 models, trained once on the source of Python's standard library."""

from __future__ import annotations

import hashlib
import io
import shutil
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import platformdirs
import torch

from ...errors import UserError
from ...files import digest_of, sealed, unsealed, why_not_whole, write_atomically, write_sums
from ...integrations.libraries import local_folder, need
from ...integrations.smollm2 import SMOLLM2, smollm2_folder
from ..kit.config import RunConfig, TrainingConfig
from ..kit.optimizer import build_optimizer, learning_rate
from ..kit.progress import progress
from ..text.batches import training_batch
from ..text.config import TextConfig
from ..text.corpus import load_corpus
from .model_config import BASES, AdaptersModelConfig, Base, kept_bases

# Of files that a pretrained model and its tokenizer consist of.
KINDS = (".safetensors", ".bin", ".json", ".model", ".txt", ".jinja", ".gguf")
RECIPE = 1  # raise it, and rename the bases, when the same base would come out otherwise
CHECKPOINT_EVERY = 100
PAD, END = "<pad>", "<end>"
FAMILIES = {"llama": "Llama", "qwen2": "Qwen2", "qwen3": "Qwen3"}


def base_folder(name: str, data_dir: Path | None = None) -> Path:
    """The folder of a base, made where the cache does not have it; ``data_dir`` may hold a file.

    Raises ``UserError`` for a base whose file is nowhere.
    """
    if name == SMOLLM2:
        return smollm2_folder(data_dir)
    base = BASES[name]
    corpus = load_corpus(TextConfig(name="stdlib"))
    made_of = hashlib.sha256(repr((RECIPE, base, corpus.digest)).encode()).hexdigest()[:16]
    folder = Path(platformdirs.user_cache_dir("resonant")) / "bases" / f"{name}-{made_of}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder.with_suffix(".lock")):
        if why_not_whole(folder) is not None:  # not made yet, or something of it was lost
            shutil.rmtree(folder, ignore_errors=True)
            _make(base, bytes(corpus.splits["train"]).decode(errors="replace"), folder)
    return folder


def digest_of_files(base: str) -> str:
    """Hash the files of a pretrained model, those of its tokenizer among them.

    Raises ``UserError`` for one that cannot be had.
    """
    folder = local_folder(base, fetch=True)
    files = sorted(path for path in folder.iterdir() if path.suffix in KINDS and path.is_file())
    return digest_of(files)


def check_base(config: RunConfig) -> None:
    """Raise ``UserError`` if the pretrained files are not those the run was planned for."""
    model = config.model
    assert isinstance(model, AdaptersModelConfig)
    if model.base not in kept_bases() and config.base not in ("", digest_of_files(model.base)):
        raise UserError(
            f"the files of model.base {model.base!r} changed since this run was planned; run the "
            "comparison anew"
        )


def subwords(text: str, vocabulary: int) -> Any:
    """A byte-level BPE tokenizer of ``vocabulary`` tokens by ``text``, as transformers take it."""
    tokenizers = need("tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, END],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(text.splitlines(keepends=True), trainer)
    fast = need("transformers").PreTrainedTokenizerFast
    return fast(tokenizer_object=made, pad_token=PAD, eos_token=END)


def base_model(base: Base, seed: int = 0) -> Any:
    """The model of transformers that ``base`` describes, with random weights."""
    transformers, family = need("transformers"), FAMILIES[base.family]
    sizes: dict[str, Any] = {
        "vocab_size": base.vocabulary,
        "hidden_size": base.width,
        "intermediate_size": base.hidden,
        "num_hidden_layers": base.layers,
        "num_attention_heads": base.heads,
        "num_key_value_heads": base.key_value_heads,
        "head_dim": base.width // base.heads,
        "max_position_embeddings": base.longest,
        "tie_word_embeddings": True,
        "pad_token_id": 0,
        "bos_token_id": None,
        "eos_token_id": 1,
    }
    if base.family == "qwen2":
        del sizes["head_dim"]
    torch.manual_seed(seed)
    config = getattr(transformers, f"{family}Config")(**sizes)
    return getattr(transformers, f"{family}ForCausalLM")(config)


def _make(base: Base, text: str, folder: Path) -> None:
    """Tokenizer and model, written into ``folder`` as a whole."""
    tokenizer = subwords(text, base.vocabulary)
    pieces = tokenizer(text.splitlines(keepends=True), add_special_tokens=False)["input_ids"]
    tokens = np.fromiter((i for piece in pieces for i in piece), dtype=np.int32)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in workers: the same sums in the same order
    try:
        model = _train(base, tokens, folder.with_suffix(".ckpt"))
    finally:
        torch.set_num_threads(threads)
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    tokenizer.save_pretrained(partial)
    model.save_pretrained(partial)
    write_sums(partial)
    partial.rename(folder)
    folder.with_suffix(".ckpt").unlink(missing_ok=True)


def _train(base: Base, tokens: np.ndarray, checkpoint: Path) -> Any:
    """``base_model`` trained to predict ``tokens``; goes on from ``checkpoint`` if there is one."""
    model = base_model(base).train()
    training = TrainingConfig(
        steps=base.steps,
        batch_size=base.batch_size,
        context=base.context,
        learning_rate=base.learning_rate,
        warmup=base.warmup,
    )
    optimizer, step = build_optimizer(model, training), 0
    if checkpoint.is_file():
        try:
            saved = torch.load(io.BytesIO(unsealed(checkpoint)), weights_only=True)
            model.load_state_dict(saved["model"])
            optimizer.load_state_dict(saved["optimizer"])
            step = saved["step"]
        except (UserError, KeyError):
            checkpoint.unlink()
            return _train(base, tokens, checkpoint)
    shape = {"batch_size": base.batch_size, "context": base.context}
    with torch.enable_grad(), progress("training a small base model (once; then kept)") as part:
        report = part("steps", base.steps)
        while step < base.steps:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(training, step)
            inputs, _ = training_batch(tokens, seed=0, step=step, **shape)
            model(inputs, labels=inputs, use_cache=False).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), training.clip)
            optimizer.step()
            optimizer.zero_grad()
            step += 1
            report(step)
            if step % CHECKPOINT_EVERY == 0:
                keep(checkpoint, model=model, optimizer=optimizer, step=step)
    return model.eval()


def keep(path: Path, *, model: Any, optimizer: Any, step: int) -> None:
    """Write what training goes on from."""
    buffer = io.BytesIO()
    states = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
    torch.save(states, buffer)
    write_atomically(path, sealed(buffer.getvalue()), "base-checkpoint")
