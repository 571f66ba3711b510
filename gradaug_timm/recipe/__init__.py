"""Recipes of any timm since 0.4, translated into today's settings."""
