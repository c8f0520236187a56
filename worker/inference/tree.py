"""The tree of body parts that a model can answer, as data of its file.

A leaf is one output of the network; an inner node is the sum of the leaves
below it. A file without a tree is flat: each of its classes is a root, and an
answer there is complete.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Node:
    """One body part of a model.

    name: what labels and metadata carry.
    title: for people. body_part_examined: term of DICOM PS3.16 Annex L.
    snomed_ct: SNOMED CT code, "" where there is none.
    threshold: least calibrated probability (0..1) for an answer here; above 1: never an answer.
    header_terms: values of (0018,0015) Body Part Examined that agree with this node.
    complete: whether an answer here is all that is asked for; else it is partial.
    ages: (from, below) in years for a node that the patient's age decides, such as (18, 200); None for others.
    support: what the node's answers rest on: images, sources, figures on images left out.
    children: nodes below this one; empty for a leaf.
    """

    name: str
    title: str
    body_part_examined: str
    snomed_ct: str
    threshold: float
    header_terms: frozenset[str]
    complete: bool = True
    ages: tuple[float, float] | None = None
    support: Mapping[str, Any] = field(default_factory=dict)
    children: tuple[Node, ...] = ()

    def walk(self) -> Iterator[Node]:
        """This node and all below it, parents first."""
        yield self
        for child in self.children:
            yield from child.walk()

    def leaves(self) -> Iterator[Node]:
        """The leaves below this node, or itself."""
        return (node for node in self.walk() if not node.children)


@dataclass(frozen=True)
class Step:
    """A node on the way from a root to a leaf, with its probability (0..1)."""

    node: Node
    probability: float

    @property
    def sure(self) -> bool:
        return self.probability >= self.node.threshold


class Tree:
    """Roots and all that is below them.

    outputs: names of the leaves, in the order of the network's outputs.
    Raises ValueError where the leaves are not exactly the outputs, or a name occurs twice.
    """

    def __init__(self, roots: Sequence[Node], outputs: Sequence[str]) -> None:
        self.roots, self.outputs = tuple(roots), tuple(outputs)
        self.nodes = {node.name: node for root in roots for node in root.walk()}
        names = [node.name for root in roots for node in root.walk()]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"the node {twice[0]!r} stands in the tree more than once")
        leaves = {node.name for root in roots for node in root.leaves()}
        if leaves != set(outputs):
            wrong = sorted(leaves ^ set(outputs))
            raise ValueError(f"{wrong[0]!r} is not both a leaf of the tree and an output of the network")
        self._columns = {
            name: [self.outputs.index(leaf.name) for leaf in node.leaves()] for name, node in self.nodes.items()
        }
        self._parents = {child.name: node.name for node in self.nodes.values() for child in node.children}

    def columns(self, name: str) -> list[int]:
        """The network's outputs that are leaves of this node."""
        return self._columns[name]

    def probability(self, name: str, leaves: np.ndarray) -> float:
        """Of a node: the sum over its leaves. leaves: (outputs,) summing to 1."""
        return float(leaves[self._columns[name]].sum())

    def likeliest_path(self, leaves: np.ndarray) -> list[Step]:
        """From the likeliest root down, at each node to its likeliest child, to a leaf.

        leaves: (outputs,) calibrated probabilities.
        """
        steps: list[Step] = []
        choice: Sequence[Node] = self.roots
        while choice:
            steps.append(
                max((Step(node, self.probability(node.name, leaves)) for node in choice), key=lambda s: s.probability)
            )
            choice = steps[-1].node.children
        return steps

    def ancestors(self, name: str) -> list[str]:
        """Names from the root down to this node's parent."""
        above: list[str] = []
        while name in self._parents:
            name = self._parents[name]
            above.insert(0, name)
        return above

    def related(self, name: str) -> set[str]:
        """This node, all above it and all below it."""
        return {*self.ancestors(name), *(node.name for node in self.nodes[name].walk())}
