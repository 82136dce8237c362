"""Basic blocks: the records of a control-flow graph, and how a graph under construction becomes one.

Owns what is left to do when all statements stand in blocks: empty blocks that only lead on are taken out, blocks that
can only follow one another become one, the rest is put in source order and numbered.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from codegraphd.daemon.analysis.flow_tree import Node

BUDGET = 2_000_000  # frames climbed and blocks looked at for exceptions: about a second
ENTRY, EXIT = 0, 1  # in a graph under construction


@dataclass(frozen=True, slots=True)
class Block:
    """A basic block. Lines are 1-based and inclusive; 0 where there is no code. `successors` are (block, label)."""

    id: int  # its index in ControlFlow.blocks
    kind: str  # entry, exit, block, loop (its head), handler, finally
    start_line: int
    end_line: int
    start_byte: int
    end_byte: int
    statements: int
    reachable: bool  # from the entry
    successors: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True)
class ControlFlow:
    """The blocks in source order, the entry first, the exit last."""

    function: str  # the node type of the function whose body it is; "": statements
    blocks: tuple[Block, ...]
    truncated: bool

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: each block with its lines and its successors."""
        blocks = [
            {
                "id": block.id, "kind": block.kind, "start_line": block.start_line, "end_line": block.end_line,
                "statements": block.statements, "reachable": block.reachable,
                "successors": [{"block": to, "when": label} for to, label in block.successors],
            }
            for block in self.blocks
        ]  # fmt: skip
        return {"blocks": blocks, "truncated": self.truncated}


@dataclass(slots=True)
class Draft:
    """A block under construction. `edges` keeps the order in which they came."""

    kind: str
    start: int = -1
    end: int = -1
    row: int = -1
    end_row: int = -1
    statements: int = 0
    alive: bool = False  # there is a way to it
    edges: dict[tuple[int, str], None] = field(default_factory=dict)

    def raises_to(self) -> frozenset[int]:
        return frozenset(target for target, label in self.edges if label == "exception")


@dataclass(slots=True)
class Frame:
    """What catches jumps. `exit_to` and `next_to` are where `break` and `continue` go; None: not this frame's."""

    labels: tuple[str, ...] = ()
    exit_to: int | None = None
    next_to: int | None = None
    plain: bool = True  # takes a `break` without a label
    handlers: tuple[int, ...] = ()
    catches_all: bool = False
    final: int | None = None  # entry of a finally
    pending: dict[tuple[str, str], None] = field(default_factory=dict)
    cases: dict[str, int] | None = None  # of a switch: label as written -> block
    fall_to: int | None = None  # of a switch: the next case

    def target(self, kind: str, label: str) -> int | None:
        """Where a jump goes that this frame catches; None: it goes on outwards."""
        match kind:
            case "break":
                return self.exit_to if (label in self.labels if label else self.plain) else None
            case "continue":
                return self.next_to if (label in self.labels if label else self.plain) else None
            case "yield":
                return self.exit_to if self.cases is not None else None
            case "fallthrough":
                return self.fall_to
            case "goto":
                return (self.cases or {}).get(label)
        return None


class Graph:
    """A graph under construction: `here` is the block that statements go into, `frames` what stands around it."""

    def __init__(self) -> None:
        self.drafts = [Draft("entry", alive=True), Draft("exit")]
        self.frames: list[Frame] = []
        self.budget = BUDGET
        self.here = self.new()
        self.link(ENTRY, self.here)

    def new(self, kind: str = "block") -> int:
        self.drafts.append(Draft(kind))
        return len(self.drafts) - 1

    def link(self, source: int, target: int, label: str = "") -> None:
        self.drafts[source].edges[target, label] = None
        self.drafts[target].alive = self.drafts[target].alive or self.drafts[source].alive

    def go(self, target: int, label: str = "") -> None:
        """Leave the current block for `target` and stay there."""
        self.link(self.here, target, label)
        self.here = target

    def add(self, node: Node) -> None:
        """Put what steers nothing into the current block."""
        block = self.drafts[self.here]
        if block.statements == 0:
            block.start, block.row = node.start, node.row
        block.end = max(block.end, node.end)
        block.end_row = max(block.end_row, node.end_row)
        block.statements += 1

    def jump(self, kind: str, label: str, source: int) -> None:
        """Link `source` to where a jump of that kind leads, through the frames from the inside out."""
        caught = False
        for frame in reversed(self.frames):
            self.budget -= 1
            if self.budget < 0:
                break
            if frame.final is not None:
                self.link(source, frame.final, kind)
                frame.pending[kind, label] = None
                return
            if kind in ("throw", "exception"):
                for handler in frame.handlers:
                    self.link(source, handler, kind)
                caught = caught or bool(frame.handlers)
                if frame.catches_all:
                    return
            target = frame.target(kind, label)
            if target is not None:
                self.link(source, target, kind)
                return
        if not (caught and kind == "exception"):
            self.link(source, EXIT, kind)

    def leave(self, kind: str, label: str = "") -> None:
        self.jump(kind, label, self.here)
        self.here = self.new()

    def finish(self) -> tuple[Block, ...]:
        """The blocks, when all has been walked; the graph is used up."""
        self.link(self.here, EXIT)
        return finished(self.drafts)


def finished(drafts: list[Draft]) -> tuple[Block, ...]:
    """The blocks of a finished walk; `drafts` is used up."""
    _skip_empty(drafts)
    reachable = _reachable(drafts, {ENTRY})
    kept = _reachable(drafts, {ENTRY, EXIT, *(i for i, draft in enumerate(drafts) if draft.statements)})
    _join(drafts, kept)
    places = _places(drafts)
    middle = sorted(kept - {ENTRY, EXIT}, key=lambda i: (places[i], i))
    order = [ENTRY, *middle, EXIT]
    number = {draft: i for i, draft in enumerate(order)}
    return tuple(_block(drafts[i], number[i], number, i in reachable) for i in order)


def _block(draft: Draft, id_: int, number: dict[int, int], reachable: bool) -> Block:
    successors = tuple(sorted((number[target], label) for target, label in draft.edges))
    return Block(
        id_, draft.kind, draft.row + 1, draft.end_row + 1, max(draft.start, 0), max(draft.end, 0), draft.statements,
        reachable, successors,
    )  # fmt: skip


def _places(drafts: list[Draft]) -> list[int]:
    """Where each block belongs in source order: its first byte, or that of the first code behind it."""
    places = [draft.start for draft in drafts]
    for i in range(len(drafts)):
        path: dict[int, None] = {}
        at = i
        while places[at] < 0 and at not in path:
            path[at] = None
            at = next((target for target, _ in drafts[at].edges), at)
        for passed in path:
            places[passed] = max(places[at], 0)
    return places


def _skip_empty(drafts: list[Draft]) -> None:
    """Lead every edge past blocks that hold nothing and go to one place only. A way back stays called "loop"."""
    onward: dict[int, tuple[int, str]] = {}
    for i, draft in enumerate(drafts):
        if draft.kind == "block" and not draft.statements and len(draft.edges) == 1:
            ((target, label),) = draft.edges
            if label in ("", "loop"):
                onward[i] = (target, label)
    for i in list(onward):
        path: dict[int, str] = {}
        target = i
        while target in onward and target not in path:
            path[target] = onward[target][1]
            target = onward[target][0]
        back = ""
        for passed, label in reversed(path.items()):
            back = label or back
            if target in path:  # they lead to each other: an endless loop without code stays as it is
                del onward[passed]
            else:
                onward[passed] = (target, back)
    for draft in drafts:
        passed_by = ((onward.get(target, (target, "")), label) for target, label in draft.edges)
        draft.edges = {(target, label or back): None for (target, back), label in passed_by}


def _join(drafts: list[Draft], kept: set[int]) -> None:
    """Make one of two blocks that can only follow each other; `kept` loses the second."""
    sources: dict[int, int] = {}
    for i in kept:
        for target in {target for target, _ in drafts[i].edges}:
            sources[target] = sources.get(target, 0) + 1
    for i in sorted(kept):
        if i == ENTRY:
            continue
        first = drafts[i]
        while i in kept and len(first.edges) == 1:
            ((target, label),) = first.edges
            second = drafts[target]
            if label or target in (i, EXIT) or sources[target] > 1 or second.kind != "block":
                break
            if second.raises_to() != first.raises_to() and first.statements:
                break  # what stands before a `try` does not raise into it
            if not first.statements:
                first.start, first.row = second.start, second.row
            first.end, first.end_row = max(first.end, second.end), max(first.end_row, second.end_row)
            first.statements += second.statements
            first.edges = second.edges
            kept.discard(target)


def _reachable(drafts: list[Draft], starts: set[int]) -> set[int]:
    seen, queue = set(starts), list(starts)
    while queue:
        for target, _ in drafts[queue.pop()].edges:
            if target not in seen:
                seen.add(target)
                queue.append(target)
    return seen
