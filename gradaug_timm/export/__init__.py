"""Networks for programs without this package: folders for timm and transformers, ONNX, torch.export, the Hub."""
