from tests.support.contract_table import table


def test_the_table_shows_each_case_on_each_backend() -> None:
    cells = {
        ("an_append_is_whole", "Memory"): ["passed", "passed"],
        ("an_append_is_whole", "Files"): ["passed", "failed"],
        ("it_survives", "Memory"): ["skipped"],
        ("it_survives", "Files"): ["passed"],
    }
    assert table(cells) == [
        "                   Memory Files",
        "an append is whole      2  FAIL",
        "it survives             –     1",
    ]
