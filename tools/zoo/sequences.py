"""Networks over sequences of tokens: a BERT encoder, a GPT-2 decoder, an LSTM.

Batch and sequence length are symbolic. Positions are counted from the attention mask, so every
shape follows from the inputs' and shape inference keeps both symbols through the whole graph.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tools.graph.build import Network
from tools.zoo.builder import Builder

_BATCH: Final = "batch"
_LENGTH: Final = "sequence"
_HIDDEN_FROM_SIGHT: Final = -1e4
"""Added to the scores of positions that mustn't be seen; exp of it is 0 and it fits float16."""


@dataclass(frozen=True, slots=True)
class TransformerSize:
    """Sizes of a transformer.

    Attributes:
        vocabulary: tokens.
        positions: longest sequence.
        width: of the vector that stands for a token.
        layers: how many.
        heads: of each attention; divides the width.
    """

    vocabulary: int
    positions: int
    width: int
    layers: int
    heads: int


BERT_BASE: Final = TransformerSize(30522, 512, 768, 12, 12)
DISTILGPT2: Final = TransformerSize(50257, 1024, 768, 6, 12)


@dataclass(frozen=True, slots=True)
class LstmSize:
    """Sizes of a recurrent language model.

    Attributes:
        vocabulary: tokens.
        width: of the embedding and of each layer's state.
        layers: how many.
    """

    vocabulary: int
    width: int
    layers: int


LSTM_MEDIUM: Final = LstmSize(10_000, 650, 2)


def bert(size: TransformerSize = BERT_BASE) -> Network:
    """Devlin et al., 2019, arXiv 1810.04805: the encoder with its pooler.

    Inputs "input_ids", "attention_mask", "token_type_ids" int64 [batch, sequence]; outputs
    "last_hidden_state" [batch, sequence, width] and "pooled" [batch, width].
    """
    b = Builder("bert")
    tokens, mask, kinds = (
        b.input(name, (_BATCH, _LENGTH), "int64")
        for name in ("input_ids", "attention_mask", "token_type_ids")
    )
    x = _embedding(b, tokens, size.vocabulary, size.width)
    x = b.op("Add", x, _embedding(b, kinds, 2, size.width))
    x = b.op("Add", x, _embedding(b, _positions(b, mask), size.positions, size.width))
    x = _layer_norm(b, x, size.width, 1e-12)
    hidden = _hidden(b, b.op("Unsqueeze", b.op("Cast", mask, to=9), b.constant([1, 2])))
    for _ in range(size.layers):
        attended = _attention(b, x, hidden, size)
        x = _layer_norm(b, b.op("Add", x, attended), size.width, 1e-12)
        inner = _gelu_erf(b, _linear(b, x, size.width, 4 * size.width))
        x = b.op("Add", x, _linear(b, inner, 4 * size.width, size.width))
        x = _layer_norm(b, x, size.width, 1e-12)
    first = b.op("Gather", x, b.constant(0), axis=1)
    pooled = b.op("Tanh", _pooler(b, first, size.width))
    b.output("last_hidden_state", x, (_BATCH, _LENGTH, size.width))
    b.output("pooled", pooled, (_BATCH, size.width))
    return b.network()


def gpt(size: TransformerSize = DISTILGPT2) -> Network:
    """Radford et al., 2019 (GPT-2); DistilGPT-2's size: a decoder without a cache.

    Inputs "input_ids", "attention_mask" int64 [batch, sequence]; output "logits"
    [batch, sequence, vocabulary]. The embedding's table is also the last layer's weight.
    """
    b = Builder("gpt")
    tokens, mask = (
        b.input(name, (_BATCH, _LENGTH), "int64") for name in ("input_ids", "attention_mask")
    )
    table = b.weight(size.vocabulary, size.width)
    places = _positions(b, mask)
    x = b.op("Gather", table, tokens, axis=0)
    x = b.op("Add", x, _embedding(b, places, size.positions, size.width))
    hidden = _hidden(b, _earlier(b, places, mask))
    for _ in range(size.layers):
        y = _fused_attention(b, _layer_norm(b, x, size.width, 1e-5), hidden, size)
        x = b.op("Add", x, y)
        y = _linear(b, _layer_norm(b, x, size.width, 1e-5), size.width, 4 * size.width)
        x = b.op("Add", x, _linear(b, _gelu_tanh(b, y), 4 * size.width, size.width))
    x = _layer_norm(b, x, size.width, 1e-5)
    scores = b.op("MatMul", x, b.op("Transpose", table, perm=[1, 0]))
    b.output("logits", scores, (_BATCH, _LENGTH, size.vocabulary))
    return b.network()


def lstm(size: LstmSize = LSTM_MEDIUM) -> Network:
    """Zaremba, Sutskever and Vinyals, 2014, arXiv 1409.2329: the medium language model.

    Input "input_ids" int64 [sequence, batch]; output "logits" [sequence, batch, vocabulary].
    """
    b = Builder("lstm")
    x = _embedding(b, b.input("input_ids", (_LENGTH, _BATCH), "int64"), size.vocabulary, size.width)
    gates = 4 * size.width
    for _ in range(size.layers):
        weights = (
            b.weight(1, gates, size.width),
            b.weight(1, gates, size.width),
            b.weight(1, 2 * gates),
        )
        states = b.op("LSTM", x, *weights, hidden_size=size.width)
        x = b.op("Squeeze", states, b.constant([1]))
    x = _linear(b, x, size.width, size.vocabulary)
    b.output("logits", x, (_LENGTH, _BATCH, size.vocabulary))
    return b.network()


def _embedding(b: Builder, indices: str, rows: int, width: int) -> str:
    return b.op("Gather", b.weight(rows, width), indices, axis=0)


def _linear(b: Builder, x: str, inner: int, outer: int) -> str:
    return b.op("Add", b.op("MatMul", x, b.weight(inner, outer)), b.weight(outer))


def _layer_norm(b: Builder, x: str, width: int, epsilon: float) -> str:
    parameters = b.weight(width), b.weight(width)
    return b.op("LayerNormalization", x, *parameters, axis=-1, epsilon=epsilon)


def _pooler(b: Builder, x: str, width: int) -> str:
    return b.op("Gemm", x, b.weight(width, width), b.weight(width), transB=1)


def _positions(b: Builder, mask: str) -> str:
    """Numbers the positions that count from 0; those before the first get 0 too."""
    numbers = b.op("Sub", b.op("CumSum", mask, b.constant(1)), b.constant(1))
    return b.op("Max", numbers, b.constant(0))


def _earlier(b: Builder, places: str, mask: str) -> str:
    """Gives bool [batch, 1, to, from]: `from` counts and doesn't lie behind `to`."""
    before = b.op(
        "GreaterOrEqual",
        b.op("Unsqueeze", places, b.constant([2])),
        b.op("Unsqueeze", places, b.constant([1])),
    )
    counts = b.op("Cast", b.op("Unsqueeze", mask, b.constant([1])), to=9)
    return b.op("Unsqueeze", b.op("And", before, counts), b.constant([1]))


def _hidden(b: Builder, seen: str) -> str:
    """Gives 0 where `seen`, otherwise what hides a position."""
    zero, low = b.constant(0.0, "float32"), b.constant(_HIDDEN_FROM_SIGHT, "float32")
    return b.op("Where", seen, zero, low)


def _attention(b: Builder, x: str, hidden: str, size: TransformerSize) -> str:
    """BERT's: queries, keys and values each with a layer of their own."""
    query, key, value = (_linear(b, x, size.width, size.width) for _ in range(3))
    return _attend(b, (query, key, value), hidden, size)


def _fused_attention(b: Builder, x: str, hidden: str, size: TransformerSize) -> str:
    """GPT-2's: queries, keys and values from one layer."""
    query, key, value = b.split(_linear(b, x, size.width, 3 * size.width), 3, axis=2)
    return _attend(b, (query, key, value), hidden, size)


def _attend(b: Builder, projected: tuple[str, str, str], hidden: str, size: TransformerSize) -> str:
    query, key, value = projected
    head = size.width // size.heads
    shape = b.constant([0, 0, size.heads, head])
    query = b.op("Transpose", b.op("Reshape", query, shape), perm=[0, 2, 1, 3])
    key = b.op("Transpose", b.op("Reshape", key, shape), perm=[0, 2, 3, 1])
    value = b.op("Transpose", b.op("Reshape", value, shape), perm=[0, 2, 1, 3])
    scores = b.op("Div", b.op("MatMul", query, key), b.constant(head**0.5, "float32"))
    shares = b.op("Softmax", b.op("Add", scores, hidden), axis=-1)
    mixed = b.op("Transpose", b.op("MatMul", shares, value), perm=[0, 2, 1, 3])
    mixed = b.op("Reshape", mixed, b.constant([0, 0, size.width]))
    return _linear(b, mixed, size.width, size.width)


def _gelu_erf(b: Builder, x: str) -> str:
    """Adds x · (1 + erf(x / √2)) / 2, as exporters write it for this opset."""
    inner = b.op("Erf", b.op("Div", x, b.constant(2**0.5, "float32")))
    scaled = b.op("Mul", x, b.op("Add", inner, b.constant(1.0, "float32")))
    return b.op("Mul", scaled, b.constant(0.5, "float32"))


def _gelu_tanh(b: Builder, x: str) -> str:
    """Adds x · (1 + tanh(√(2/π) · (x + 0.044715 x³))) / 2, GPT-2's approximation."""
    cubed = b.op("Pow", x, b.constant(3.0, "float32"))
    inner = b.op("Add", x, b.op("Mul", cubed, b.constant(0.044715, "float32")))
    bent = b.op("Tanh", b.op("Mul", inner, b.constant(0.7978845608, "float32")))
    half = b.op("Mul", x, b.constant(0.5, "float32"))
    return b.op("Mul", half, b.op("Add", bent, b.constant(1.0, "float32")))
