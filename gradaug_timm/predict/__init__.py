"""Predictions of a trained network for a folder of images: names, probabilities and a contact sheet."""
