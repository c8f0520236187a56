"""The tree of body parts."""

from __future__ import annotations

import numpy as np
import pytest

from worker.inference.tree import Node, Tree


def node(name: str, threshold: float = 0.9, *children: Node, **more: object) -> Node:
    return Node(name, name, "", "", threshold, frozenset(), children=children, **more)  # type: ignore[arg-type]


@pytest.fixture
def tree() -> Tree:
    """Three levels: other > upper_limb > hand, wrist; other > knee; and spine."""
    limb = node("upper_limb", 0.9, node("hand"), node("wrist"))
    return Tree([node("spine"), node("other", 0.8, limb, node("knee"))], ["hand", "knee", "spine", "wrist"])


def test_the_likeliest_path_adds_up_the_leaves_below_each_node(tree: Tree) -> None:
    path = tree.likeliest_path(np.array([0.5, 0.1, 0.05, 0.35]))
    assert [step.node.name for step in path] == ["other", "upper_limb", "hand"]
    assert [round(step.probability, 6) for step in path] == [0.95, 0.85, 0.5]
    assert [step.sure for step in path] == [True, False, False]


def test_an_inner_node_can_win_where_no_leaf_of_it_does(tree: Tree) -> None:
    path = tree.likeliest_path(np.array([0.2, 0.2, 0.4, 0.2]))
    assert path[0].node.name == "other"


def test_related_are_the_nodes_above_and_below(tree: Tree) -> None:
    assert tree.related("upper_limb") == {"other", "upper_limb", "hand", "wrist"}
    assert tree.ancestors("hand") == ["other", "upper_limb"]


@pytest.mark.parametrize("outputs", [["hand", "wrist", "knee"], ["hand", "wrist", "knee", "spine", "foot"]])
def test_leaves_and_outputs_must_be_the_same(outputs: list[str]) -> None:
    limb = node("upper_limb", 0.9, node("hand"), node("wrist"))
    with pytest.raises(ValueError, match="not both a leaf of the tree and an output"):
        Tree([node("spine"), node("other", 0.8, limb, node("knee"))], outputs)


def test_a_name_stands_in_the_tree_once() -> None:
    with pytest.raises(ValueError, match="more than once"):
        Tree([node("spine"), node("other", 0.8, node("spine"))], ["spine"])
