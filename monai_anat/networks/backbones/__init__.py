"""Backbones: Swin, ViT, ConvNeXt, ResNet, and adapters for networks of other libraries."""
