"""Cases that no partitioning could run, each with the reason and what is said about it."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final


@dataclass(frozen=True)
class Exclusion:
    """Cases that fail for one reason.

    Attributes:
        reason: for people.
        said: a regular expression that the refusal matches.
        names: the cases; with `*` for any characters.
    """

    reason: str
    said: str
    names: tuple[str, ...]

    def covers(self, name: str) -> bool:
        """Says whether a case is one of them."""
        return any(fnmatchcase(name, pattern) for pattern in self.names)


EXCLUDED: Final = (
    Exclusion(
        "onnxruntime 1.31 has no kernel for the operator or for its element type",
        "Could not find an implementation|Failed to find kernel",
        (
            "test_attention_[34]d_causal_bf16*",
            "test_attention_4d_attn_mask_causal_bf16_expanded",
            "test_attention_4d_causal_padded_kv_bf16_expanded",
            "test_attention_4d_padded_kv_bf16_expanded",
            "test_bernoulli*",
            "test_bitcast_bool_to_uint8",
            "test_bitshift_*_uint16",
            "test_celu_bfloat16*",
            "test_image_decoder_decode_*",
            "test_max_int16",
            "test_max_uint16",
            "test_min_int16",
            "test_min_uint16",
            "test_pow_types_float32_uint32",
            "test_pow_types_float32_uint64",
            "test_roialign_*",
            "test_swiglu*",
            "test_top_k_uint64",
        ),
    ),
    Exclusion(
        "made for opset 6 with operators that onnxruntime runs from opset 7 on",
        "Could not find an implementation",
        (
            "test_AvgPool*",
            "test_BatchNorm*_eval",
            "test_GLU*",
            "test_Linear",
            "test_PReLU_*",
            "test_PoissonNLLLLoss_no_reduce",
            "test_Softsign",
            "test_operator_add*",
            "test_operator_basic",
            "test_operator_mm",
            "test_operator_non_float_params",
            "test_operator_params",
            "test_operator_pow",
        ),
    ),
    Exclusion(
        "an operator of training or a preview, which onnxruntime doesn't know",
        "not a registered function/op",
        (
            "test_adagrad*",
            "test_adam*",
            "test_flexattention",
            "test_flexattention_causal_mask",
            "test_flexattention_diff_head_sizes",
            "test_flexattention_double",
            "test_flexattention_fp16",
            "test_flexattention_gqa",
            "test_flexattention_prob_mod",
            "test_flexattention_relative_positional",
            "test_flexattention_scaled",
            "test_flexattention_score_mod",
            "test_flexattention_soft_cap",
            "test_gradient_*",
            "test_momentum*",
            "test_nesterov_momentum",
        ),
    ),
    Exclusion(
        "an operator of opset 27 or 28 whose older form says something else, or less",
        "it can't be said in that",
        (
            "test_bitshift_*_int*",
            "test_causal_conv_with_state_silu_with_past_state",
            "test_causal_conv_with_state_with_past_state",
            "test_compress_bfloat16",
            "test_einsum_*_bfloat16",
            "test_linear_attention_delta",
            "test_linear_attention_explicit_scale",
            "test_linear_attention_fp16",
            "test_linear_attention_gated",
            "test_linear_attention_gated_delta",
            "test_linear_attention_gated_delta_beta_scalar",
            "test_linear_attention_gated_delta_gqa",
            "test_linear_attention_gated_delta_mqa",
            "test_linear_attention_gated_per_head_decay",
            "test_mod_*_fmod_0*",
            "test_onehot_with_bfloat16_values",
            "test_reversesequence_bfloat16",
            "test_unique_bfloat16_sorted_without_axis",
        ),
    ),
    Exclusion(
        "an attribute that this onnxruntime doesn't know",
        "Unrecognized attribute: left_window_size",
        (
            "test_attention_*_window",
            "test_attention_local_window_default",
            "test_attention_local_window_*_mask",
            "test_attention_local_window_with_past",
        ),
    ),
    Exclusion(
        "onnxruntime's own limits in operators that it has",
        "Batchwise recurrent|Type Error|conv_integer|attention_helper|empty set with bool",
        (
            "test_attention_4d_attn_mask_causal_bf16",
            "test_attention_4d_causal_padded_kv_bf16",
            "test_attention_4d_padded_kv_bf16",
            "test_attention_4d_diff_heads_mask4d_padded_kv",
            "test_convinteger_with_padding",
            "test_gru_batchwise",
            "test_lstm_batchwise",
            "test_reduce_max_empty_set_bool",
            "test_simple_rnn_batchwise",
        ),
    ),
    Exclusion(
        "onnx's own check finds fault with it, though onnxruntime runs it",
        "not a valid ONNX model",
        ("test_mvn",),
    ),
)

DEPENDS_ON_THE_MACHINE: Final = Exclusion(
    "the operator needs a locale, en_US.UTF-8, which not every machine has",
    "Failed to construct locale",
    ("test_strnorm*_monday_*",),
)
"""These may fail, and when they don't, they have to be right."""
