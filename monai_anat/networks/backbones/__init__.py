"""Backbones under one contract: Swin, ViT, ConvNeXt, ResNet, and adapters for foreign encoders."""
