"""One backward for several passes: gradients are computed early and stored until the caller's `backward()`."""
from collections.abc import Sequence

import torch

from ..elastic import Part
from ..upstream import foreach_add_, foreach_mul_, have_gradient_hooks
from .loss_scale import EarlyLossScale

Gradients = list[torch.Tensor | None]


class _Carry(torch.autograd.Function):
    """Value with given gradients by the parameters."""

    @staticmethod
    def forward(ctx, value, gradients, *parameters):
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    def backward(ctx, grad_output):
        if torch.is_grad_enabled():
            raise RuntimeError(
                'A GradAug step has no second derivatives: call backward() without create_graph=True.')
        if ctx.gradients is None:
            raise RuntimeError('The loss of a GradAug step can be differentiated only once: call backward() once.')
        gradients, ctx.gradients = ctx.gradients, None
        if grad_output.device.type != 'cpu' or grad_output != 1:  # on other devices the comparison would synchronise
            foreach_mul_([gradient for gradient in gradients if gradient is not None], grad_output)
        return None, None, *gradients


class CarriedLoss:
    """Sum of losses; the graph of each loss is freed before the sum is differentiated.

    Args:
        parameters: The parameters by which the losses are differentiated.
        loss_scale: The loss scale for fp16; None without fp16.
        copies: Keep copies of gradients, because the next pass may reuse their memory (CUDA graphs).

    Raises:
        ValueError: A parameter has a gradient hook.
    """

    def __init__(
            self,
            parameters: list[torch.Tensor],
            loss_scale: EarlyLossScale | None = None,
            *,
            copies: bool = False,
    ):
        if have_gradient_hooks(parameters):
            raise ValueError(
                'GradAug does not support parameters with hooks of Tensor.register_hook, which would run for each pass '
                'and again for the sum; use register_post_accumulate_grad_hook, whose hooks run once.')
        self._parameters = parameters
        self._index = {parameter: index for index, parameter in enumerate(parameters)}
        self._loss_scale = loss_scale
        self._copies = copies
        self._scale = None if loss_scale is None else loss_scale.current(parameters[0].device)
        self._value: torch.Tensor | None = None
        self._gradients: Gradients = [None] * len(parameters)

    def add(self, loss: torch.Tensor, parts: Sequence[Part] = ()) -> None:
        """Differentiate `loss` [], which frees its graph.

        Args:
            loss: The loss.
            parts: Parts of parameters by which the loss is differentiated as well.
        """
        count = len(self._parameters)
        with torch.autocast(loss.device.type, enabled=False):
            scaled = loss if self._scale is None else loss * self._scale
            gradients = torch.autograd.grad(
                scaled, [*self._parameters, *(part.leaf for part in parts)], allow_unused=True)
        self._add_whole(gradients[:count])
        self._add_parts(parts, gradients[count:])
        self._value = loss.detach() if self._value is None else self._value + loss.detach()

    def _add_whole(self, new: Sequence[torch.Tensor | None]) -> None:
        both = [(a, b) for a, b in zip(self._gradients, new) if a is not None and b is not None]
        if both:
            foreach_add_(*map(list, zip(*both)))
        fresh = _apart([b if a is None else None for a, b in zip(self._gradients, new)], copies=self._copies)
        self._gradients = [b if a is None else a for a, b in zip(self._gradients, fresh)]

    def _add_parts(self, parts: Sequence[Part], gradients: Sequence[torch.Tensor | None]) -> None:
        places: dict[int, torch.Tensor] = {}
        new: list[torch.Tensor] = []
        for part, gradient in zip(parts, gradients):
            if gradient is None:
                continue
            index = self._index[part.parameter]
            total = self._gradients[index]
            if total is None:
                total = self._gradients[index] = torch.zeros_like(part.parameter)
            if index in places:  # a parameter of several modules: one kernel must not write to it twice
                foreach_add_(list(places.values()), new)
                places, new = {}, []
            places[index] = part.of(total)
            new.append(gradient)
        if places:
            foreach_add_(list(places.values()), new)

    def total(self, last: torch.Tensor | None = None) -> torch.Tensor:
        """Return the sum of all losses [], for one `backward()`; `last` is one more loss, which still has its graph."""
        if self._loss_scale is not None and self._scale is not None:
            self._loss_scale.unscale([g for g in self._gradients if g is not None], self._scale)
        carried = _Carry.apply(self._value, self._gradients, *self._parameters)
        return carried if last is None else carried + last


def _apart(gradients: Gradients, *, copies: bool) -> Gradients:
    """Return gradients that can be changed in place: none shares memory (as those of a + b do) or is expanded.

    Args:
        gradients: The gradients.
        copies: Copy all gradients.
    """
    seen, apart = set(), []
    for gradient in gradients:
        if gradient is not None:
            memory = gradient.untyped_storage().data_ptr()
            if memory in seen or 0 in gradient.stride():
                gradient = gradient.clone(memory_format=torch.contiguous_format)
            elif copies:
                gradient = gradient.clone()
            seen.add(memory)
        apart.append(gradient)
    return apart
