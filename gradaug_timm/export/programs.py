"""Networks as programs that run without Python code: ONNX and torch.export."""
import logging
from collections.abc import Callable

import torch
from torch import nn
from torch.export import Dim, ExportedProgram

from ..cli import one_line
from ..files import written_aside
from .comparison import IMAGES, compare, fixed_batch

TRACED = 2  # images; torch takes 1 for a constant


def trace(network: nn.Module, input_size: tuple[int, int, int], batch_size: int | None) -> ExportedProgram:
    """Trace the program of a network, for batches of any length or of `batch_size`.

    Raises:
        ValueError: torch can't trace it.
    """
    images = fixed_batch(input_size, batch_size or TRACED)
    shapes = None if batch_size else ({0: Dim('batch')},)
    try:
        with torch.no_grad():
            return torch.export.export(network, (images,), dynamic_shapes=shapes)
    except Exception as error:  # whatever the network's code may raise under tracing
        hint = '' if batch_size else '; try --batch-size N'
        raise ValueError(f'torch.export can\'t trace the network{hint}: {one_line(error, 300, kind=True)}') from error


def write_torch_export(program: ExportedProgram, path: str, expected: nn.Module, *, batch_size: int | None) -> float:
    """Write a file for `torch.export.load`; return and raise as `compare`, without a file if it raises."""
    with written_aside(path) as partial:
        with open(partial, 'wb') as file:
            torch.export.save(program, file)
        with open(partial, 'rb') as file:
            loaded = torch.export.load(file).module()
        return _compared(loaded, expected, program, path, batch_size)


def write_onnx(program: ExportedProgram, path: str, expected: nn.Module, *, batch_size: int | None) -> float:
    """Write ONNX with an input 'images' and an output 'logits'; return and raise as `write_torch_export`."""
    import onnxruntime
    for name in ('onnxscript', 'onnx_ir'):
        logging.getLogger(name).setLevel(logging.WARNING)  # they report each pass
    images = program.example_inputs[0]
    with written_aside(path) as partial:
        try:
            torch.onnx.export(
                program, images, partial, input_names=['images'], output_names=['logits'], dynamo=True,
                external_data=False, verbose=False)
        except Exception as error:  # torch's exporter, onnxscript and onnx have classes of their own
            reason = one_line(error, 300, kind=True)
            raise ValueError(f'--onnx {path}: torch can\'t translate the network: {reason}') from error
        session = onnxruntime.InferenceSession(partial, providers=['CPUExecutionProvider'])

        def run(images: torch.Tensor) -> torch.Tensor:
            return torch.from_numpy(session.run(None, {'images': images.numpy()})[0])

        return _compared(run, expected, program, path, batch_size)


@torch.no_grad()
def _compared(
        run: Callable[[torch.Tensor], torch.Tensor],
        expected: nn.Module,
        program: ExportedProgram,
        path: str,
        batch_size: int | None,
) -> float:
    images = fixed_batch(program.example_inputs[0][0].shape[1:], batch_size or IMAGES)
    try:
        return compare(run(images), expected(images))
    except ValueError as error:
        raise ValueError(f'{path} is not written: {error}') from error
