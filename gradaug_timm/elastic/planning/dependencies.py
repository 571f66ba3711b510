"""Dependencies between entries of tensors, found by vector-Jacobian products.

The product with a cotangent on some entries of a dimension is non-zero exactly where these entries depend on a tensor.
For each bit b of the entry's number there are two cotangents: one on the entries whose number has bit b, one on the
other entries. If a single entry depends on something, these 2 log2(n) products identify the entry. If several do (a
head uses all channels of the query), the entries are halved until one is left or all of them depend on the same.
"""
import math
from enum import Enum
from typing import NamedTuple

import numpy as np
import torch

from .probe import positive
from .trace import Key, Leaf

Place = tuple[int, int]  # number of a leaf, and one of the dimensions
Hits = dict[Place, np.ndarray]  # place -> which entries are meant, bool [entries]
Pattern = tuple[int, int]  # the bits that the numbers of some users share, and the value of these bits
ENTRIES_AT_ONCE = 2 ** 20  # entries of the cotangents of products that are computed together


class Kind(Enum):
    """Kind of a dependency."""
    PARTIAL = 1  # each user depends on some entries only
    COMPLETE = 2  # all users depend on all entries in use: the entries of a single head, or weights of tokens
    TRANSPOSED = 3  # all users depend on all entries, each at another position: tokens on channels (without pairs)


class Dependency(NamedTuple):
    """Pairs of entries: entry `users[i]` depends on entry `entries[i]` of the dimension `key` of a leaf."""
    key: Key
    entries: np.ndarray
    users: np.ndarray
    kind: Kind = Kind.PARTIAL


def dependencies(x: torch.Tensor, dim: int, leaves: list[Leaf]) -> list[Dependency]:
    """Return what each entry of dimension `dim` of `x` depends on.

    Args:
        x: A tensor of a probed network.
        dim: The dimension.
        leaves: The constants and parameters of the network.
    """
    if not leaves:
        return []
    products = _Products(x, dim, leaves)
    everything = {place: np.ones(products.leaves[place[0]].shape[place[1]], dtype=bool)
                  for place in products.places}
    return _divide(products, np.arange(x.shape[dim]), everything)


class _Products:
    """Vector-Jacobian products of one dimension of a tensor with the leaves on which the tensor depends.

    Args:
        x: The tensor.
        dim: The dimension.
        leaves: Tensors at which differentiation ends; leaves without effect on `x` are dropped.
    """

    def __init__(self, x: torch.Tensor, dim: int, leaves: list[Leaf]):
        self.x, self.size = x, x.shape[dim]
        self.weights = positive(x.shape, x)
        self.shape = [-1 if d == dim else 1 for d in range(x.dim())]
        found = torch.autograd.grad(
            x, [leaf.tensor for leaf in leaves], self.weights, retain_graph=True, allow_unused=True)
        self.leaves = [leaf for leaf, gradient in zip(leaves, found) if gradient is not None and gradient.any()]
        self.places = [(index, d) for index, leaf in enumerate(self.leaves)
                       for d, key in enumerate(leaf.keys) if key is not None]

    def supports(self, users: list[np.ndarray], numbers: list[int]) -> dict[int, torch.Tensor]:
        """Return the gradients [len(users), ...] of cotangents on `users`, for each given leaf that is reached.

        Args:
            users: Indexes in the dimension, for each product.
            numbers: Numbers of the leaves.
        """
        masks = torch.zeros(len(users), self.size, dtype=self.x.dtype)
        for mask, chosen in zip(masks, users):
            mask[chosen] = 1
        at_once = max(1, ENTRIES_AT_ONCE // self.x.numel())
        parts = [torch.autograd.grad(
            self.x, [self.leaves[number].tensor for number in numbers],
            self.weights * part.view(len(part), *self.shape),
            retain_graph=True, allow_unused=True, is_grads_batched=True)
            for part in masks.split(at_once)]
        return {number: torch.cat(gradients) for number, gradients in zip(numbers, zip(*parts))
                if gradients[0] is not None}

    def hits(self, users: list[np.ndarray], questions: Hits) -> list[Hits]:
        """Return the entries among `questions` on which each of `users` (indexes) depend."""
        if not questions or not users:
            return [{} for _ in users]
        supports = self.supports(users, list(dict.fromkeys(number for number, _ in questions)))
        found = {}
        for (number, dim), asked in questions.items():
            if number in supports:
                other = [d + 1 for d in range(supports[number].dim() - 1) if d != dim]
                support = supports[number].abs().amax(other) if other else supports[number]
                found[number, dim] = asked & support.numpy().astype(bool)
            else:
                found[number, dim] = np.zeros((len(users), len(asked)), dtype=bool)
        return [{place: hit[index] for place, hit in found.items()} for index in range(len(users))]

    def dependency(self, place: Place, entries: np.ndarray, users: np.ndarray) -> Dependency:
        return Dependency(self.leaves[place[0]].keys[place[1]], entries, users)


def _divide(products: _Products, users: np.ndarray, questions: Hits) -> list[Dependency]:
    """Return the dependencies of `users` (indexes) on the entries in `questions`."""
    if not questions:
        return []
    found, questions, patterns = _name_users(products, users, questions)
    found += _take_blocks(products, users, questions)
    if len(patterns) <= len(users) // 4:
        found += _take_patterns(products, users, patterns, questions)
    questions = {place: asked for place, asked in questions.items() if asked.any()}
    halves = np.array_split(users, 2) if questions else []
    for half, inside in zip(halves, products.hits(halves, questions)):
        found += _divide(products, half, {place: hit for place, hit in inside.items() if hit.any()})
    return found


def _name_users(
        products: _Products,
        users: np.ndarray,
        questions: Hits,
) -> tuple[list[Dependency], Hits, dict[Pattern, Hits]]:
    """Return what follows from products with the users whose number has a bit set, and with the other users.

    Returns:
        The dependencies on entries that a single user depends on; the entries that several users depend on; and the
        latter by pattern, which is the bits that the users' numbers share and the value of these bits.
    """
    number = np.arange(len(users))
    bits = range(max(1, math.ceil(math.log2(len(users)))))
    coded = products.hits([users[number >> bit & 1 == value] for bit in bits for value in (1, 0)], questions)
    found, several, patterns = [], {}, {}
    for place in questions:
        ones, zeros = (sum(hits[place].astype(np.int64) << bit for bit, hits in zip(bits, coded[start::2]))
                       for start in (0, 1))
        reached, both = ones | zeros, ones & zeros
        single = (both == 0) & (reached == 2 ** len(bits) - 1) & (ones < len(users))
        entries = np.flatnonzero(single)
        if len(entries):
            found.append(products.dependency(place, entries, users[ones[entries]]))
        more = (reached > 0) & ~single
        if more.any():
            several[place] = more
            codes = np.stack([ones ^ zeros, ones & ~zeros], 1)
            for shared, value in np.unique(codes[more], axis=0).tolist():
                same = (codes == (shared, value)).all(1) & more
                patterns.setdefault((shared, value), {})[place] = same
    return found, several, patterns


def _take_patterns(
        products: _Products,
        users: np.ndarray,
        patterns: dict[Pattern, Hits],
        questions: Hits,
) -> list[Dependency]:
    """Return dependencies of patterns whose users depend on all of the pattern's entries, and on no others.

    The entries that are found are removed from `questions`.
    """
    number = np.arange(len(users))
    chosen = {pattern: users[number & pattern[0] == pattern[1]] for pattern in patterns}
    chosen = {pattern: alike for pattern, alike in chosen.items() if len(alike) < len(users)}
    found = []
    for (pattern, alike), hits in zip(chosen.items(), products.hits(list(chosen.values()), questions)):
        expected = {place: asked for place, asked in patterns[pattern].items() if place in questions}
        if expected and all((hit == expected.get(place, False)).all() for place, hit in hits.items()):
            left = dict(expected)
            found += _take_blocks(products, alike, left)
            for place in expected.keys() - left.keys():
                questions[place] = questions[place] & ~expected[place]
    return found


def _take_blocks(products: _Products, users: np.ndarray, questions: Hits) -> list[Dependency]:
    """Return dependencies where all users depend on all entries in `questions`, judged by samples of the users.

    The entries that are found are removed from `questions`.
    """
    samples = products.hits(
        [users[[index]] for index in {0, len(users) // 3, len(users) // 2, len(users) - 1}], questions)
    found = []
    for place, asked in list(questions.items()):
        if all((sample[place] == asked).all() for sample in samples):
            del questions[place]
            entries = np.flatnonzero(asked)
            pairs = (np.append(entries, np.full(len(users), entries[0])),
                     np.append(np.full(len(entries), users[0]), users))
            if len(users) < products.size:
                found.append(products.dependency(place, *pairs))
            elif _is_unit(products, place):
                found.append(products.dependency(place, *pairs)._replace(kind=Kind.COMPLETE))
            elif products.leaves[place[0]].is_output and len(entries) > 1:
                none = np.array([], dtype=np.int64)
                found.append(products.dependency(place, none, none)._replace(kind=Kind.TRANSPOSED))
    return found


def _is_unit(products: _Products, place: Place) -> bool:
    """Return whether users that depend on all entries are one unit (a head); tokens differ in position instead."""
    if not products.leaves[place[0]].is_output:
        return False
    first, last = products.supports([np.array([0]), np.array([products.size - 1])], [place[0]])[place[0]].ne(0)
    return bool((first & last).any())
