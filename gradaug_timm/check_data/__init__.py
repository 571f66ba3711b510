"""A check of images and labels before training: counts, unreadable files, duplicates, labels and classes."""
