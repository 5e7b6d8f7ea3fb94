"""transformers' Vision Transformer with random weights, and ours with the same ones."""

import torch
from transformers import ViTConfig, ViTModel

from segformer.vit.model import VisionTransformer
from segformer.vit.variants import VitVariant


def build_config(variant: VitVariant) -> ViTConfig:
    """Transformers' configuration of a variant, with eager attention and DINO's epsilon."""
    return ViTConfig(
        hidden_size=variant.width,
        num_hidden_layers=variant.depth,
        num_attention_heads=variant.heads,
        intermediate_size=4 * variant.width,
        patch_size=variant.patch,
        image_size=224,
        layer_norm_eps=1e-6,
        attn_implementation="eager",
    )


def build_reference(variant: VitVariant, *, seed: int) -> ViTModel:
    """Transformers' network; its attention is far from uniform, and no bias is zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # of its own initialization
        model = ViTModel(build_config(variant), add_pooling_layer=False).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.empty_like(parameter).normal_(generator=generator)
            parameter += noise * 1.2 / variant.width**0.5
    return model


def copy_weights(reference: ViTModel, variant: VitVariant) -> VisionTransformer:
    """Our network with the weights of transformers', copied layer by layer."""
    with torch.device("meta"):
        model = VisionTransformer(variant).eval()
    model.to_empty(device="cpu")
    theirs = dict(reference.named_parameters())
    with torch.no_grad():
        model.cls_token.copy_(theirs["embeddings.cls_token"])
        model.positions.copy_(theirs["embeddings.position_embeddings"])
        for kind in ("weight", "bias"):
            pairs = {
                "patch": ["embeddings.patch_embeddings.projection"],
                "norm": ["layernorm"],
            }
            for n in range(variant.depth):
                block, layer = f"blocks.{n}", f"layers.{n}"
                pairs |= {
                    f"{block}.attention_norm": [f"{layer}.layernorm_before"],
                    f"{block}.attention.query_key_value": [
                        f"{layer}.attention.{name}_proj" for name in "qkv"
                    ],
                    f"{block}.attention.output": [f"{layer}.attention.o_proj"],
                    f"{block}.feed_forward_norm": [f"{layer}.layernorm_after"],
                    f"{block}.widen": [f"{layer}.mlp.fc1"],
                    f"{block}.narrow": [f"{layer}.mlp.fc2"],
                }
            for ours, names in pairs.items():
                stacked = torch.cat([theirs[f"{name}.{kind}"] for name in names])
                model.get_parameter(f"{ours}.{kind}").copy_(stacked)
    return model
