"""Text to token ids, with the text cut before it is tokenised.

Tokenising is 8% of the model's time, and 3% once only what can be read is tokenised. The cut is exact: it is made
before white space, where no tokenizer joins what stands on both sides, and a text that comes out short is cut later.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from codegraphd.daemon.embedding.models import ModelError, ModelInfo
from codegraphd.store.records import CodeFlow

if TYPE_CHECKING:
    import tokenizers

_CHARACTERS_PER_TOKEN = 6  # the first cut; code has 3 to 4


class Tokens:
    """A model's tokenizer. Special tokens are added, and count toward the limit."""

    def __init__(self, info: ModelInfo) -> None:
        self.limit = info.max_tokens
        self._name = info.name
        self._tokenizer = _open(info)
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(info.max_tokens)

    def encode(
        self,
        texts: Sequence[str],
        flows: Sequence[CodeFlow | None] = (),  # noqa: ARG002 of models that read them
    ) -> list[tuple[list[int], bool]]:
        """For each text its ids, at most `max_tokens`, and whether it was cut."""
        first = self.limit * _CHARACTERS_PER_TOKEN
        encodings = self._tokenizer.encode_batch([_cut(text, first) for text in texts])
        found = []
        for text, encoding in zip(texts, encodings, strict=True):
            size = first
            while not encoding.overflowing and size < len(text):  # few tokens in many characters: cut later
                size *= 4
                encoding = self._tokenizer.encode(_cut(text, size))  # noqa: PLW2901
            found.append((encoding.ids, bool(encoding.overflowing)))
        return found

    def pieces(self, parts: Sequence[str]) -> list[list[int]]:
        """For each part its ids, of all together at most `limit`. Parts are tokenised apart from each other."""
        encoding = self._tokenizer.encode(list(parts), is_pretokenized=True, add_special_tokens=False)
        found: list[list[int]] = [[] for _ in parts]
        for id_, part in zip(encoding.ids, encoding.word_ids, strict=True):
            if part is not None:
                found[part].append(id_)
        return found

    def id_of(self, token: str) -> int:
        """Raises ModelError where the tokenizer has no such token."""
        number = self._tokenizer.token_to_id(token)
        if number is None:
            raise ModelError(f"model {self._name}: its tokenizer has no {token}")
        return int(number)


def _cut(text: str, size: int) -> str:
    """At most `size` characters, ending before white space where there is some in the second half."""
    if len(text) <= size:
        return clean(text)
    at = max(text.rfind(" ", size // 2, size), text.rfind("\n", size // 2, size))
    while at > 0 and text[at - 1].isspace():
        at -= 1
    return clean(text[: at if at > 0 else size])


def clean(text: str) -> str:
    """Without lone surrogates, which stand for bytes that are not UTF-8 and which the tokenizer refuses."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text


def _open(info: ModelInfo) -> tokenizers.Tokenizer:
    import tokenizers

    def path(name: str) -> str:
        return os.path.join(info.directory, name)

    try:
        if os.path.exists(path("tokenizer.json")):
            return tokenizers.Tokenizer.from_file(path("tokenizer.json"))
        if os.path.exists(path("vocab.txt")):
            return _wordpiece(path("vocab.txt"), lowercase=_setting(info, "do_lower_case", True))
        return _byte_pairs(path("vocab.json"), path("merges.txt"))
    except Exception as error:  # the library raises bare Exception
        raise ModelError(f"model {info.name}: its tokenizer in {info.directory} cannot be read: {error}") from None


def _wordpiece(vocabulary: str, *, lowercase: bool) -> tokenizers.Tokenizer:
    """BERT's tokenizer from the vocabulary alone, as older models are shipped."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordPiece.from_file(vocabulary, unk_token="[UNK]"))  # noqa: S106
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(_special(tokenizer, "[SEP]"), _special(tokenizer, "[CLS]"))
    return tokenizer


def _byte_pairs(vocabulary: str, merges: str) -> tokenizers.Tokenizer:
    """RoBERTa's tokenizer from vocabulary and merges, as CodeBERT, GraphCodeBERT and UniXcoder are shipped."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    tokenizer = Tokenizer(models.BPE.from_file(vocabulary, merges))
    known = tokenizer.get_vocab(with_added_tokens=False)
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "<encoder-only>", "<decoder-only>", "<encoder-decoder>"]
    tokenizer.add_special_tokens([token for token in special if token in known])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.RobertaProcessing(
        _special(tokenizer, "</s>"), _special(tokenizer, "<s>"), add_prefix_space=False
    )
    return tokenizer


def _special(tokenizer: tokenizers.Tokenizer, token: str) -> tuple[str, int]:
    number = tokenizer.token_to_id(token)
    if number is None:
        raise ValueError(f"it has no {token}")
    return token, number


def _setting(info: ModelInfo, name: str, default: bool) -> bool:
    with (
        contextlib.suppress(OSError, ValueError),
        open(os.path.join(info.directory, "tokenizer_config.json"), encoding="utf-8") as file,
    ):
        return bool(json.load(file).get(name, default))
    return default
