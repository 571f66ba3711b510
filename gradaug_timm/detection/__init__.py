"""Detection and instance segmentation on backbones that run as sub-networks (paper, section 4.3)."""
