"""Every causal language model that transformers can make tiny, with random weights."""

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

#: Tokens that a window or chunk holds, wherever a model has one.
WINDOW, VOCABULARY = 8, 120
_NAMES = {
    VOCABULARY: "vocab_size",
    32: "hidden_size d_model n_embd embed_dim emb_dim dim_model embedding_size",
    48: "intermediate_size ffn_dim decoder_ffn_dim encoder_ffn_dim ffn_hidden_size dim_ff dff d_ff intermediate_size_mlp",
    16: "moe_intermediate_size shared_expert_intermediate_size",
    2: "num_hidden_layers n_layer n_layers decoder_layers num_layers num_decoder_layers num_key_value_heads eos_token_id "
       "num_experts_per_tok moe_k",
    1: "encoder_layers num_encoder_layers bos_token_id decoder_start_token_id",
    4: "num_attention_heads n_head n_heads decoder_attention_heads encoder_attention_heads num_heads moe_num_experts "
       "num_decoder_attention_heads num_encoder_attention_heads num_experts num_local_experts n_routed_experts",
    8: "dim_head head_dim sliding_window attention_chunk_size window_size sliding_window_size",
    192: "max_position_embeddings n_positions n_ctx max_seq_len",
    0: "pad_token_id",
    0.3: "initializer_range init_std",
}  # fmt: skip
SIZES = {name: value for value, names in _NAMES.items() for name in names.split()}
#: What some need besides.
OWN: dict[str, dict] = {}
#: Those that are no language model by themselves, or whose sizes are not ours to choose.
KINDS = list(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def tiny(kind, attention=None):
    """The random model of a kind, the same weights every time, none of them near zero."""
    default = CONFIG_MAPPING[kind]()
    sizes = {name: value for name, value in SIZES.items() if hasattr(default, name)} | OWN.get(kind, {})
    config = CONFIG_MAPPING[kind](**sizes)
    config.is_decoder = True
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1 and weight.std() < 0.1:
                weight.normal_(0, 0.3)
    return model
