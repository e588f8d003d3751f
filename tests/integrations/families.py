"""Tiny models of transformers' families, made from their configuration classes."""

from __future__ import annotations

from typing import Any

import torch
import transformers

TEXT: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 160,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GROUPED: dict[str, Any] = TEXT | {"num_key_value_heads": 2}
WIDE: dict[str, Any] = GROUPED | {"head_dim": 8}
GPT: dict[str, Any] = {
    "vocab_size": 64,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 160,
}
GPT |= {"bos_token_id": 1, "eos_token_id": 2}
IMAGE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 8,
    "patch_size": 4,
}
SOUND: dict[str, Any] = {
    "vocab_size": 64,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "num_mel_bins": 8,
    "max_source_positions": 16,
    "max_target_positions": 160,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
}
# Family as the page calls it: the name of its configuration, that of its model, and its sizes.
FAMILIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "Llama": ("Llama", "LlamaForCausalLM", GROUPED),
    "Qwen2": ("Qwen2", "Qwen2ForCausalLM", GROUPED),
    "Qwen3": ("Qwen3", "Qwen3ForCausalLM", WIDE),
    "Mistral": ("Mistral", "MistralForCausalLM", GROUPED),
    "Gemma": ("Gemma", "GemmaForCausalLM", WIDE),
    "Gemma 2": ("Gemma2", "Gemma2ForCausalLM", WIDE),
    "Gemma 3": ("Gemma3Text", "Gemma3ForCausalLM", WIDE),
    "Phi-3": ("Phi3", "Phi3ForCausalLM", GROUPED),
    "OLMo 2": ("Olmo2", "Olmo2ForCausalLM", GROUPED),
    "StarCoder 2": ("Starcoder2", "Starcoder2ForCausalLM", GROUPED),
    "GPT-2": ("GPT2", "GPT2LMHeadModel", GPT),
    "GPT-NeoX": ("GPTNeoX", "GPTNeoXForCausalLM", TEXT),
    "GPT-J": ("GPTJ", "GPTJForCausalLM", GPT | {"rotary_dim": 4}),
    "OPT": (
        "OPT",
        "OPTForCausalLM",
        {k: v for k, v in TEXT.items() if k != "intermediate_size"}
        | {"ffn_dim": 48, "word_embed_proj_dim": 32},
    ),
    "Bloom": (
        "Bloom",
        "BloomForCausalLM",
        {"vocab_size": 64, "hidden_size": 32, "n_layer": 2, "n_head": 4},
    ),
    "BERT": ("Bert", "BertModel", TEXT),
    "RoBERTa": ("Roberta", "RobertaModel", TEXT),
    "DistilBERT": (
        "DistilBert",
        "DistilBertModel",
        {"vocab_size": 64, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48},
    ),
    "ViT": ("ViT", "ViTForImageClassification", IMAGE),
    "DINOv2": ("Dinov2", "Dinov2Model", IMAGE),
    "DeiT": ("DeiT", "DeiTModel", IMAGE),
    "Whisper": ("Whisper", "WhisperForConditionalGeneration", SOUND),
    "T5": (
        "T5",
        "T5ForConditionalGeneration",
        {"vocab_size": 64, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4},
    ),
}


def family(name: str) -> Any:
    """The tiny model of a family, in evaluation."""
    config, model, sizes = FAMILIES[name]
    torch.manual_seed(0)
    return getattr(transformers, model)(getattr(transformers, f"{config}Config")(**sizes)).eval()
