"""The residual vision transformer: sizes, tokens, and what its parts can see."""

import pytest
import torch
from pydantic import ValidationError
from small_families import small
from torch import nn

from m2m.networks.residual_transformer import (
    AggregatedBlock,
    ResVitTranslator,
    Transformer,
    TransformerLayer,
    token_places,
)
from m2m.networks.slice_inputs import SliceInputs

PLANES = torch.tensor([0, 1])


def translator(transformers=(0, 2), reduce=1, out_channels=1):
    torch.manual_seed(0)
    return ResVitTranslator(SliceInputs(1), (4, 4, 8), 3, transformers, 2, 2, reduce, out_channels)


def translate(network, x):
    return network(x, PLANES[: len(x)], torch.zeros(len(x), 3, *x.shape[2:])).image


@pytest.mark.parametrize("reduce", [1, 2])
@pytest.mark.parametrize("size", [(64, 80), (61, 47)])
def test_it_keeps_the_size_and_every_parameter_receives_gradient(size, reduce):
    network = translator(reduce=reduce, out_channels=2)
    image = translate(network, torch.rand(2, 1, *size))
    assert image.shape == (2, 2, *size)
    (image * torch.randn(image.shape)).sum().backward()
    assert [name for name, p in network.named_parameters() if not p.grad.abs().sum() > 0] == []


def test_blocks_share_one_transformer_and_the_others_have_none():
    with_two, with_one, without = (translator(blocks) for blocks in ((0, 2), (0,), ()))
    count = [sum(p.numel() for p in network.parameters()) for network in (with_two, with_one, without)]
    block = sum(p.numel() for p in AggregatedBlock(8, 1).parameters()) - sum(
        p.numel() for p in with_one.blocks[1].parameters()
    )
    shared = sum(p.numel() for p in Transformer(8, 2, 2).parameters())
    assert count[0] - count[1] == block and count[1] - count[2] == block + shared


def test_every_token_depends_on_every_other_one():
    torch.manual_seed(0)
    transformer = Transformer(8, 2, 1)
    x = torch.rand(1, 8, 5, 6, requires_grad=True)
    transformer(x)[0, :, 0, 0].square().sum().backward()
    assert (x.grad.abs().sum(1) > 0).all()


def test_attention_weighs_values_by_softmax_of_scaled_products():
    torch.manual_seed(0)
    layer = TransformerLayer(8, 2)
    for weight in layer.feed[2].parameters():
        nn.init.zeros_(weight)
    x = torch.rand(1, 5, 8)
    y = layer.norms[0](x)[0]
    q, k, v = layer.queries(y).chunk(3, -1)
    heads = []
    for part in (slice(0, 4), slice(4, 8)):
        weights = (q[:, part] @ k[:, part].T / 2).softmax(-1)
        heads.append(weights @ v[:, part])
    expected = x[0] + layer.join(torch.cat(heads, -1))
    torch.testing.assert_close(layer(x)[0], expected)


def test_places_of_tokens_differ_and_do_not_depend_on_the_size_of_the_slice():
    small_map, large = (token_places(torch.arange(h), torch.arange(w), 16) for h, w in ((4, 5), (9, 11)))
    assert small_map.shape == (4, 5, 16)
    assert torch.equal(large[:4, :5], small_map)
    distances = torch.cdist(large.flatten(0, 1), large.flatten(0, 1)) + torch.eye(99)
    assert distances.min() > 0.1
    assert torch.equal(small_map[0, 0], torch.tensor([0.0] * 4 + [1.0] * 4 + [0.0] * 4 + [1.0] * 4))


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ({"widths": (4, 4, 6)}, "multiple of 4 \\* network.heads, 16"),
        ({"blocks": 3, "transformers": (0, 3)}, "names block 3, of 3"),
    ],
)
def test_impossible_networks_are_refused_by_name(network, message):
    with pytest.raises(ValidationError, match=message):
        small("resvit", network=network)
