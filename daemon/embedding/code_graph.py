"""GraphCodeBERT's input: the tokens of a comment and of code, then one node for each variable of its data flow.

As published (Guo et al. 2021; microsoft/CodeBERT, GraphCodeBERT/codesearch/run.py, `convert_examples_to_features`):

    ids        <s> comment </s> code </s> <unk> <unk> …     the comment as in the paper; the published search lacks it,
    positions  2   3 4 …                   0     0   …      since there it is the question
    mask       comment, code and special tokens see each other; a special token sees the nodes too; a node sees the
               tokens of its variable, which see it, and the nodes that its value comes from

A node's embedding is the mean of those of its variable's tokens (`graph_encoder`). Code is tokenised leaf by leaf, with
a blank before each but the first. As in the published configuration, 64 of 320 tokens (a fifth) are kept for nodes
where there are that many, and no text is cut for nodes beyond those; comments get no more than a fifth either. A node
whose variable was cut off with the end of the code is left out: published, it stays, with nothing to stand for.

No torch here: the daemon counts tokens with it.
"""

from __future__ import annotations

from collections.abc import Sequence

from codegraphd.daemon.embedding.models import ModelInfo
from codegraphd.daemon.embedding.tokens import Tokens, clean
from codegraphd.store.records import CodeFlow

SHARE = 5  # one of so many tokens is kept for nodes


class CodeIds(list[int]):
    """The token ids of one input, those of the nodes (all `<unk>`) last."""

    __slots__ = ("sources", "specials", "variables")

    def __init__(
        self,
        text: Sequence[int],
        unknown: int,
        specials: Sequence[int],
        variables: Sequence[tuple[int, int]],
        sources: Sequence[Sequence[int]],
    ) -> None:
        super().__init__([*text, *[unknown] * len(variables)])
        self.specials = specials  # places of the tokens that see everything
        self.variables = variables  # of each node: the half-open range of its variable's tokens
        self.sources = sources  # of each node: the nodes that its value comes from

    @property
    def n_text(self) -> int:
        """Tokens that are no nodes."""
        return len(self) - len(self.variables)


class CodeTokens(Tokens):
    """The tokenizer of a model that reads data flow."""

    def __init__(self, info: ModelInfo) -> None:
        super().__init__(info)
        self._first, self._end, self._unknown = (self.id_of(token) for token in ("<s>", "</s>", "<unk>"))

    def encode(self, texts: Sequence[str], flows: Sequence[CodeFlow | None] = ()) -> list[tuple[list[int], bool]]:
        """As `Tokens.encode`; where there is a flow, it is read in place of the text, and the ids are `CodeIds`."""
        if not any(flows):
            return super().encode(texts)
        plain = iter(super().encode([text for text, flow in zip(texts, flows, strict=True) if flow is None]))
        return [next(plain) if flow is None else self._read(flow) for flow in flows]

    def _read(self, flow: CodeFlow) -> tuple[list[int], bool]:
        share = self.limit // SHARE
        comment, is_cut = self._comment(flow.comment, share)
        room = self.limit - 2 - (len(comment) + 1 if comment else 0) - min(len(flow.variables), share)
        # each leaf takes one token at least, so no more of them are looked at than can be read
        leaves = self.pieces([" " * (i > 0) + clean(token) for i, token in enumerate(flow.tokens[: room + 1])])
        ids = [self._first, *comment, *([self._end] if comment else ())]
        spans: list[tuple[int, int]] = []
        start, end = len(ids), len(ids) + room
        for leaf in leaves:
            spans.append((len(ids), len(ids) + len(leaf)))
            ids += leaf
        is_cut = is_cut or len(ids) > end or len(flow.tokens) > len(leaves)
        del ids[max(start, end) :]
        ids.append(self._end)
        variables, sources = self._nodes(flow, spans, len(ids) - 1)
        specials = [place for place, id_ in enumerate(ids) if id_ in (self._first, self._end)]
        return CodeIds(ids, self._unknown, specials, variables, sources), is_cut

    def _comment(self, comment: str, share: int) -> tuple[list[int], bool]:
        if not comment:
            return [], False
        ids = [id_ for piece in self.pieces([clean(comment)]) for id_ in piece]
        return ids[:share], len(ids) > share

    def _nodes(
        self, flow: CodeFlow, spans: Sequence[tuple[int, int]], end: int
    ) -> tuple[list[tuple[int, int]], list[list[int]]]:
        """The nodes whose variables were read whole (up to `end`), as many as there is room for."""
        kept = [
            (token, sources)
            for token, sources in flow.variables[: self.limit - end - 1]
            if token < len(spans) and spans[token][1] <= end
        ]
        # as published: of several nodes of one token, an edge leads to the last
        node_of = {token: node for node, (token, _) in enumerate(kept)}
        return (
            [spans[token] for token, _ in kept],
            [[node_of[token] for token in sources if token in node_of] for _, sources in kept],
        )
