"""Tiny models for embedders of this machine: a vector for each of a few words, the same for those of one meaning."""

import json
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, processors

__all__ = ["DIMENSION", "VOCABULARY", "save_tokenizer", "word_vectors"]

DIMENSION = 16
VOCABULARY = (
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "cat",
    "kitten",
    "sleeps",
    "slumbers",
    "taxes",
    "april",
    "the",
    "are",
    "due",
)
_SYNONYMS = {"kitten": "cat", "slumbers": "sleeps"}


def word_vectors() -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Return the vector of each word of the vocabulary."""
    drawn = np.random.default_rng(7).normal(size=(len(VOCABULARY), DIMENSION)).astype(np.float32)
    return drawn[[VOCABULARY.index(_SYNONYMS.get(word, word)) for word in VOCABULARY]]


def save_tokenizer(folder: Path) -> None:
    """Write a tokenizer of words in the files that transformers reads, too."""
    tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ends = [(token, VOCABULARY.index(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    tokenizer.save(str(folder / "tokenizer.json"))
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep")}
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    settings = {"model_max_length": 128, "tokenizer_class": "PreTrainedTokenizerFast", **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
