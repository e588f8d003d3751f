"""Branches and PEFT: one LoRA configuration for both attentions, and everything on disk."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..files import write_atomically
from ..models.fields import from_dict
from ..models.pretrained import read_description
from ..models.weights import load_weights, save_weights
from ..nn.adapter import PhaseAdapter
from ..nn.energy import EnergyGate
from ..nn.parameter import HeadScalar
from .branch import NAME, BranchConfig, attach, branches, remove_krause_branch
from .decoder import PROJECTIONS, HostedDecoderAttention, is_decoder
from .families import decoder_attentions
from .libraries import need
from .record import BRANCHED, KEY, foreign_root, steps

FEED_FORWARD = ("gate_proj", "up_proj", "down_proj")
DESCRIPTION, WEIGHTS = "krause_branch.json", "krause_branch.safetensors"
ADAPTER = "adapter_config.json"  # as PEFT calls it
WRAPPED = ("original_module", "modules_to_save", "default")  # parts that PEFT adds to names
SIZES = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "model_type",
    "intermediate_size",
    "head_dim",
    "vocab_size",
)


def lora_config(
    model: nn.Module, *, rank: int = 16, alpha: float = 32.0, dropout: float = 0.1
) -> Any:
    """PEFT's ``LoraConfig`` for a model of transformers, with what of ours is in it.

    In a Llama, Qwen2 or Qwen3 low-rank updates of every projection, of a branch too, and of the
    feed-forward layers; elsewhere of every linear layer but the head (PEFT's "all-linear"). What
    ours learns is trained whole and saved with the adapter: learned scalars and gates of
    ``use_attention`` and ``swap``, sigma, gamma and the mixture of a branch. Make it after those.
    ``restore_attention`` brings all of it back from the adapter's folder.

    Raises ``ValueError`` for a model that is none of transformers, ``UserError`` without PEFT.

    Source: defaults of arXiv 2602.11534.
    """
    if foreign_root(model)[0] is None:
        decoder_attentions(model)  # says which models there are
    ours = any(is_decoder(m) or isinstance(m, HostedDecoderAttention) for m in model.modules())
    causal = hasattr(model, "generate") and hasattr(model, "lm_head")
    whole = sorted(_learned_whole(model))
    recorded = steps(model)
    kind = recorded_lora_config() if recorded else need("peft").LoraConfig
    return kind(
        task_type="CAUSAL_LM" if causal else None,
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=[*PROJECTIONS, *FEED_FORWARD] if ours else "all-linear",
        exclude_modules=None if ours else _trained_whole(model),
        modules_to_save=whole or None,
        **({KEY: recorded} if recorded else {}),
    )


def _trained_whole(model: nn.Module) -> str:
    """Make a pattern of modules inside what is trained whole, which get no low-rank update."""
    new = [re.escape(".".join(name.split(".")[-2:])) for name in anew(model)]
    return rf".*\.({'|'.join([KEY, 'gate', *dict.fromkeys(new)])})\..*"


@functools.cache
def recorded_lora_config() -> type:
    """Make PEFT's ``LoraConfig`` with a field more, ``resonant``: what was set up in the model.

    It lands in adapter_config.json. PEFT alone reads such a file too, and warns of the name.
    """
    more = [(KEY, Any, dataclasses.field(default=None))]
    return dataclasses.make_dataclass("RecordedLoraConfig", more, bases=(need("peft").LoraConfig,))


def open_adapter(model: nn.Module, directory: Path, *, trainable: bool) -> Any:
    """Put PEFT's adapter in ``directory`` around ``model``, in which all is set up.

    Raises ``ValueError`` for a configuration that is damaged.
    """
    peft, described = need("peft"), read_description(directory / ADAPTER)
    options: dict[str, Any] = {"is_trainable": trainable}
    if described.get(KEY) is not None:
        try:
            options["config"] = recorded_lora_config()(**described)
        except TypeError as error:
            raise ValueError(
                f"{directory / ADAPTER} is damaged, or of another version of PEFT ({error})"
            ) from error
    return peft.PeftModel.from_pretrained(model, str(directory), **options)


def trainable_parameters(model: nn.Module) -> dict[str, int]:
    """How many numbers of ``model`` learn, by what they belong to.

    Keys such as "branch q_proj", "pretrained q_proj", "feed-forward up_proj", "branch sigma",
    "attention sigma" and "attention gate" (of ``use_attention`` and ``swap``); "of
    all" is the number of all parameters, learning or not.
    """
    counts: dict[str, int] = {}
    everything = 0
    for name, parameter in model.named_parameters():
        everything += parameter.numel()
        if parameter.requires_grad:
            part = _part(name.split("."))
            counts[part] = counts.get(part, 0) + parameter.numel()
    return dict(sorted(counts.items())) | {"of all": everything}


def _part(path: list[str]) -> str:
    if NAME in path:
        return f"branch {path[path.index(NAME) + 1]}"
    if "scalars" in path:
        return f"attention {path[path.index('scalars') + 1]}"
    if KEY in path:
        return f"attention {path[path.index(KEY) + 1]}"
    for new in ("coupling", "in_proj", "out_proj"):
        if new in path and "attention" in path[: path.index(new)]:
            return f"attention {path[path.index(new) + 1] if new == 'coupling' else new}"
    for part in path:
        if part in PROJECTIONS:
            return f"pretrained {part}"
        if part in FEED_FORWARD:
            return f"feed-forward {part}"
    return "other"


def describe_trainable(model: nn.Module) -> str:
    """``trainable_parameters`` as lines to print."""
    counts = trainable_parameters(model)
    everything = counts.pop("of all")
    learning = sum(counts.values())
    lines = [f"{learning:,} of {everything:,} parameters learn ({learning / everything:.2%})"]
    lines += [f"  {part:24} {count:>12,}" for part, count in counts.items()]
    return "\n".join(lines)


def save_branch(model: nn.Module, directory: str | Path) -> None:
    """Write the branches of ``model``, or its PEFT adapter with all it needs, into ``directory``.

    Every weight of the branches is written, and with adapters (``get_peft_model``) PEFT's own
    files, in which are the low-rank updates, sigma, gamma and the mixture. The pretrained weights
    are not: keep a model with merged adapters by its own ``save_pretrained``.
    ``restore_attention`` brings all of it back.

    Raises ``ValueError`` for a model without branch and adapter, merged adapters, several or one of
    another name than "default", and an adapter that does not keep what the branch learns.
    """
    found, adapted = branches(model), _is_adapted(model)
    others = [step["by"] for step in steps(model) if step["by"] != BRANCHED]
    if others:
        raise ValueError(
            f"{others[0]} has set up attention in this model, which save_branch does not write; "
            "the model's own save_pretrained writes all of it (PEFT's, where there is an adapter), "
            "and restore_attention brings it back"
        )
    if not found and not adapted:
        raise ValueError("there is nothing to save: the model has neither a branch nor an adapter")
    if adapted:
        _check_saves(model)
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    config = next(iter(found.values())).config if found else None
    described = {
        "branch": None if config is None else dataclasses.asdict(config),
        "model": _sizes(model),
        "weights": _fingerprint(model),
    }
    if adapted:
        model.save_pretrained(str(directory))  # type: ignore[operator]
    if found:
        save_weights(directory / WEIGHTS, _branch_weights(model), "branch")
    text = json.dumps(described, indent=2) + "\n"
    write_atomically(directory / DESCRIPTION, text.encode(), "branch-config")


def open_branch(model: nn.Module, directory: Path, *, trainable: bool) -> Any:
    """Give ``model``, as it was pretrained, what ``save_branch`` wrote into ``directory``.

    Returns the model: itself with branches, or PEFT's around it if there is an adapter, which can
    go on learning if ``trainable``.

    Raises ``ValueError`` for a model of other sizes, with branches or adapters of its own, and for
    weights that do not fit.
    """
    described = read_description(directory / DESCRIPTION)
    if not {"branch", "model", "weights"} <= set(described) or not isinstance(
        described["model"], dict
    ):
        raise ValueError(f"{directory / DESCRIPTION} is damaged; save the branch again")
    _check_fits(model, described, directory)
    if branches(model) or _is_adapted(model):
        raise ValueError(
            "the model has a branch or an adapter already; load into the pretrained model "
            "(remove_krause_branch, unload())"
        )
    branch = described["branch"]
    if branch is not None:
        attach(model, from_dict(BranchConfig, branch))
    try:
        if branch is not None:
            _fill(model, directory)
        if (directory / ADAPTER).is_file():
            _check_adapter(model, directory)
            return open_adapter(model, directory, trainable=trainable)
    except Exception:
        if branch is not None:
            remove_krause_branch(model)
        raise
    return model


def _is_adapted(model: nn.Module) -> bool:
    return hasattr(model, "peft_config")


def _sizes(model: Any) -> dict[str, Any]:
    return {name: getattr(model.config, name, None) for name in SIZES}


def _check_saves(model: Any) -> None:
    """Raise ``ValueError`` for adapters that would not come back as they are."""
    if list(model.peft_config) != ["default"]:
        raise ValueError(
            f"the model has adapters called {', '.join(model.peft_config)}, but save_branch keeps "
            "one called default; add it without adapter_name, or save with PEFT"
        )
    if any(getattr(module, "merged_adapters", None) for module in model.modules()):
        raise ValueError("the adapter is merged into the model; unmerge_adapter() first")
    kept = set(getattr(model.peft_config["default"], "modules_to_save", None) or [])
    if kept != _learned_whole(model):
        raise ValueError(
            f"the adapter keeps {_list(kept)}, but the branch learns {_list(_learned_whole(model))}"
            "; make it with lora_config(model) once the branch is there"
        )


def _learned_whole(model: nn.Module) -> set[str]:
    """Names, as PEFT matches their ends, of modules of ours that learn from scratch."""
    found = {f"{NAME}.{name}" for each in branches(model).values() for name in each.scalars}
    found |= {".".join(n.split(".")[-2:]) for n in anew(model)}
    for name, module in model.named_modules():
        path = [part for part in name.split(".") if part not in WRAPPED]
        if isinstance(module, EnergyGate) and len(path) > 1:
            found.add(".".join(path[-2:]))
        elif isinstance(module, HeadScalar) and "scalars" in path:
            found.add(".".join(path[-3:]))
    return found


def anew(model: nn.Module) -> list[str]:
    """Name the attention whose projections are all new: no update by a rank has a base there."""
    plain = [n for n, m in model.named_modules() if isinstance(m, PhaseAdapter)]
    return [n for n in plain if not {"modules_to_save", "original_module"} & set(n.split("."))]


@torch.no_grad()
def _fingerprint(model: nn.Module) -> str:
    """A hash of the first and last layer's pretrained projections, the same in bfloat16."""
    found = hashlib.sha256()
    hosts = list(decoder_attentions(model).values())
    for host in (hosts[0], hosts[-1]):
        for name in PROJECTIONS:
            part = getattr(host, name)
            weight = getattr(part, "base_layer", part).weight
            found.update(weight.to("cpu", torch.bfloat16).view(torch.int16).numpy().tobytes())
    return found.hexdigest()


def _check_fits(model: nn.Module, described: dict[str, Any], directory: Path) -> None:
    if described.get("weights") != _fingerprint(model) and described["model"] == _sizes(model):
        raise ValueError(
            f"{directory} was saved from a model of the same sizes with other weights; load it "
            "into the model it was made from (one with merged adapters by its state_dict)"
        )
    for name, ours in _sizes(model).items():
        if ours != (sizes := described["model"]).get(name):
            raise ValueError(
                f"{directory} was saved from a model with {name} = {sizes.get(name)}, but this one "
                f"has {ours}; load it into the model it was made for"
            )


def _branch_weights(model: nn.Module) -> dict[str, Tensor]:
    """Without what PEFT put around them: its updates, and scalars from before."""
    found = {}
    for name, branch in branches(model).items():
        host = name.removeprefix("base_model.model.")
        for inner, tensor in branch.state_dict().items():
            if ".lora_" not in inner and ".modules_to_save." not in inner:
                plain = inner.replace(".base_layer.", ".").replace(".original_module.", ".")
                found[f"{host}.{NAME}.{plain}"] = tensor
    return found


def _fill(model: nn.Module, directory: Path) -> None:
    weights = load_weights(directory / WEIGHTS)
    ours = _branch_weights(model)
    _check_names(weights, ours, directory)
    with torch.no_grad():
        for name, tensor in ours.items():
            if tensor.shape != weights[name].shape:
                raise ValueError(
                    f"{name} in {directory} has the shape {tuple(weights[name].shape)}, in this "
                    f"model {tuple(tensor.shape)}; load it into the model it was made for"
                )
            tensor.copy_(weights[name])


def _check_adapter(model: nn.Module, directory: Path) -> None:
    """Raise ``ValueError`` unless PEFT's file is of the branch that the description tells of.

    PEFT itself fills what it finds, and leaves the rest at its start.
    """
    described = read_description(directory / ADAPTER)
    saved = set(described.get("modules_to_save") or [])
    wanted = _learned_whole(model)
    if saved != wanted:
        raise ValueError(
            f"the adapter in {directory} keeps {_list(saved)}, but the branch beside it learns "
            f"{_list(wanted)}: they are of different models; save both again with save_branch"
        )


def _check_names(theirs: Iterable[str], ours: Iterable[str], directory: Path) -> None:
    different = sorted(set(theirs) ^ set(ours))
    if different:
        raise ValueError(
            f"the weights in {directory} do not fit its {DESCRIPTION} (first: {different[0]})"
        )


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "nothing whole"
