"""Every causal language model that transformers can make tiny, with random weights."""

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

#: Tokens that a window or chunk holds, wherever a model has one.
WINDOW, VOCABULARY = 8, 120
_NAMES = {
    VOCABULARY: "vocab_size vocab_size_per_layer_input",
    32: "hidden_size d_model n_embd embed_dim emb_dim dim_model embedding_size lru_width",
    48: "intermediate_size ffn_dim decoder_ffn_dim encoder_ffn_dim ffn_hidden_size dim_ff dff d_ff "
        "intermediate_size_mlp",
    16: "moe_intermediate_size shared_expert_intermediate_size expert_ffn_hidden_size mamba_d_state ssm_state_size "
        "state_size q_lora_rank kv_lora_rank index_head_dim",
    2: "num_hidden_layers n_layer n_layers decoder_layers num_layers num_decoder_layers num_key_value_heads "
       "eos_token_id num_experts_per_tok moe_k index_n_heads linear_num_key_heads",
    1: "encoder_layers num_encoder_layers bos_token_id decoder_start_token_id n_groups mamba_ngroups n_group "
       "topk_group first_k_dense_replace n_shared_experts",
    4: "num_attention_heads n_head n_heads decoder_attention_heads encoder_attention_heads num_heads moe_num_experts "
       "num_decoder_attention_heads num_encoder_attention_heads num_experts num_local_experts n_routed_experts "
       "linear_num_value_heads",
    WINDOW: "sliding_window attention_chunk_size window_size sliding_window_size attention_window_size index_topk "
            "local_attention",
    8: "dim_head head_dim mamba_n_heads mamba_d_head mamba_num_heads mamba_head_dim qk_nope_head_dim qk_rope_head_dim "
       "linear_key_head_dim linear_value_head_dim kv_channels hidden_size_per_layer_input",
    64: "mamba_d_ssm mamba_chunk_size chunk_size",
    192: "max_position_embeddings n_positions n_ctx max_seq_len",
    0: "pad_token_id num_nextn_predict_layers",
    0.3: "initializer_range init_std",
}  # fmt: skip
SIZES = {name: value for value, names in _NAMES.items() for name in names.split()}
_LATENT = {"num_key_value_heads": 4, "v_head_dim": 8, "qk_head_dim": 16}
_WINDOWED = {"layer_types": ["sliding_attention", "full_attention"]}
_STATE = {"layer_types": ["linear_attention", "full_attention"]}
#: What some need besides; None leaves a size as it is.
OWN = {
    **dict.fromkeys(("deepseek_v2", "deepseek_v3", "deepseek_v32", "glm4_moe_lite", "glm_moe_dsa"), _LATENT),
    **dict.fromkeys(("axk1", "axk2", "minicpm3", "youtu"), _LATENT),
    "bamba": {"attn_layer_indices": [1]},
    "codegen": {"rotary_dim": 8},
    "cohere2": {"num_hidden_layers": 4},
    "falcon": {"head_dim": None},
    "gemma3_text": _WINDOWED,
    "gemma3n_text": {"num_kv_shared_layers": 0, "altup_num_inputs": 2, **_WINDOWED},
    "gemma4_text": {"num_kv_shared_layers": 0, **_WINDOWED},
    "gemma4_unified_text": {"num_kv_shared_layers": 0, **_WINDOWED},
    "gpt_neo": {"num_layers": 2, "attention_types": [[["global", "local"], 1]]},
    "gptj": {"rotary_dim": 8},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"]},
    # Its layers are gone through again and again, so that greater weights would blow up what is only rounded.
    "hrm_text": {"initializer_range": 0.12},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1,
              "use_mamba_kernels": False, "mamba_dt_rank": 4},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "llama4_text": {"num_hidden_layers": 4},
    "mamba2": {"num_heads": 8, "head_dim": 8},
    "nemotron_h": {"layers_block_type": _STATE["layer_types"]},
    "olmo_hybrid": _STATE,
    "qwen2": {"use_sliding_window": True, **_WINDOWED},
    "qwen3": {"use_sliding_window": True, **_WINDOWED},
    "qwen3_next": _STATE,
    "recurrent_gemma": {"num_hidden_layers": 3},
    "xlm": {"causal": True},
    "xmod": {"default_language": "en_XX"},
    "zamba2": {"layers_block_type": ["mamba", "hybrid"], "num_mem_blocks": 1},
}  # fmt: skip
#: Parts of models with other inputs, or whose sizes are tied to each other in ways of their own.
NOT_TINY = {
    "blt", "cohere_compass_text", "dbrx", "dots3_note", "dots3_note_text", "emu3", "fuyu", "gemma3", "gemma3n",
    "gemma4", "gemma4_assistant", "gemma4_unified", "gemma4_unified_assistant", "git", "got_ocr2", "kimi_linear",
    "lfm2_moe", "llama4", "longcat_flash", "mllama", "moss_transcribe_diarize", "musicgen", "musicgen_melody",
    "phi4_multimodal", "prophetnet", "qwen3_5", "qwen3_5_moe", "qwen4_exp", "reformer", "roc_bert", "xlnet", "xlstm",
    "zamba", "zaya",
}  # fmt: skip
#: How some are found to be fed.
METHODS = {
    **dict.fromkeys(("gemma3_text", "llama4_text", "qwen2", "gptj", "llama", "gpt2"), "tree"),
    **dict.fromkeys(("bart", "jamba", "bamba"), "plain"),
    "roberta": "single",
}
#: What is said of those that no text can be asked of alone.
REFUSED = {"cpmant": "reads in both directions and so cannot continue a prompt"}
_FIRST = ["gemma3_text", "llama4_text", "qwen2", "gptj", "bart", "roberta", "jamba", "cpmant"]
KINDS = [*_FIRST, *sorted(set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES) - NOT_TINY - set(_FIRST))]


def _has(config, name):
    try:
        return hasattr(config, name)
    except (RuntimeError, ValueError):  # Of a size that differs from layer to layer.
        return False


def tiny(kind):
    """The random model of a kind, the same weights every time, none of them near zero and none left out at random."""
    default = CONFIG_MAPPING[kind]()
    sizes = {name: value for name, value in SIZES.items() if _has(default, name)} | OWN.get(kind, {})
    config = CONFIG_MAPPING[kind](**{name: value for name, value in sizes.items() if value is not None})
    config.is_decoder = True
    for name, value in config.to_dict().items():
        if "drop" in name and isinstance(value, float):
            setattr(config, name, 0.0)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1 and weight.std() < 0.1:
                weight.normal_(0, 0.3)
    return model
