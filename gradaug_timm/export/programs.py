"""Networks as programs that run without Python code: ONNX and torch.export."""
import json
import logging
import re
from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.export import Dim, ExportedProgram

from ..cli import cause
from ..files import written_aside
from .comparison import IMAGES, compare, fixed_batch

BATCH = 'batch'  # name of the dimension of images
NAMES = 'class_names'  # where the names of the classes are: a JSON list
TRACED = 2  # images; torch takes 1 for a constant


def trace(network: nn.Module, input_size: tuple[int, int, int], batch_size: int | None) -> ExportedProgram:
    """Trace the program of a network, for batches of any length or of `batch_size`.

    Raises:
        ValueError: torch can't trace it.
    """
    images = fixed_batch(input_size, batch_size or TRACED)
    shapes = None if batch_size else ({0: Dim(BATCH)},)
    try:
        with torch.no_grad():
            program = torch.export.export(network, (images,), dynamic_shapes=shapes)
    except Exception as error:  # whatever the network's code may raise under tracing
        hint = '' if batch_size else '; try --batch-size N'
        raise ValueError(f'torch.export can\'t trace the network{hint}: {cause(error)}') from error
    return _without_stack_traces(program)


def _without_stack_traces(program: ExportedProgram) -> ExportedProgram:
    """Remove the lines of code that each node came from, which name folders of this machine, in place."""
    for module in program.graph_module.modules():
        for node in getattr(getattr(module, 'graph', None), 'nodes', ()):
            node.meta.pop('stack_trace', None)
    return program


def write_torch_export(
        program: ExportedProgram,
        path: str,
        expected: nn.Module,
        *,
        batch_size: int | None,
        class_names: Sequence[str] | None = None,
) -> float:
    """Write a file for `torch.export.load`; return and raise as `compare`, without a file if it raises.

    The names of the classes become its extra file 'class_names.json'.
    """
    extra = {f'{NAMES}.json': json.dumps(list(class_names))} if class_names else {}
    with written_aside(path) as partial:
        with open(partial, 'wb') as file:
            torch.export.save(program, file, extra_files=extra)
        with open(partial, 'rb') as file:
            loaded = torch.export.load(file).module()
        return _compared(loaded, expected, program, path, batch_size)


def write_onnx(
        program: ExportedProgram,
        path: str,
        expected: nn.Module,
        *,
        batch_size: int | None,
        class_names: Sequence[str] | None = None,
) -> float:
    """Write ONNX with an input 'images' and an output 'logits'; return and raise as `write_torch_export`.

    The first dimension of both is called 'batch' if it is not fixed. The names of the classes become its metadata
    'class_names'.
    """
    import onnxruntime
    for name in ('onnxscript', 'onnx_ir'):
        logging.getLogger(name).setLevel(logging.WARNING)  # they report each pass
    images = program.example_inputs[0]
    with written_aside(path) as partial:
        try:
            with torch.no_grad():  # else torch fails at networks that compute with parameters in place
                torch.onnx.export(
                    program, images, partial, input_names=['images'], output_names=['logits'], dynamo=True,
                    external_data=False, verbose=False)
        except Exception as error:  # torch's exporter, onnxscript and onnx have classes of their own
            raise ValueError(f'--onnx {path}: torch can\'t translate the network: {cause(error)}') from error
        _tidy(partial, class_names)
        session = onnxruntime.InferenceSession(partial, providers=['CPUExecutionProvider'])

        def run(images: torch.Tensor) -> torch.Tensor:
            return torch.from_numpy(session.run(None, {'images': images.numpy()})[0])

        return _compared(run, expected, program, path, batch_size)


def _tidy(path: str, class_names: Sequence[str] | None) -> None:
    """Name the dimension of images and the classes in an ONNX file; remove notes that name folders of this machine."""
    import onnx
    model = onnx.load(path)
    first = model.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    for value in [*model.graph.input, *model.graph.output, *model.graph.value_info]:
        for dim in value.type.tensor_type.shape.dim:
            if first and dim.dim_param:  # may be a product, such as of images and windows
                dim.dim_param = re.sub(rf'\b{re.escape(first)}\b', BATCH, dim.dim_param)
    for noted in (model, model.graph, *model.graph.node, *model.graph.value_info, *model.functions,
                  *(node for function in model.functions for node in function.node)):
        kept = [note for note in noted.metadata_props if not note.key.endswith('stack_trace')]
        del noted.metadata_props[:]
        noted.metadata_props.extend(kept)
    if class_names:
        model.metadata_props.add(key=NAMES, value=json.dumps(list(class_names)))
    onnx.save(model, path)


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
