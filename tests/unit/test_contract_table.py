from tests.support.contract_table import table


def test_the_table_shows_each_case_on_each_backend() -> None:
    cells = {
        ("it_survives", "Memory"): ["skipped"],
        ("it_survives", "Files"): ["passed"],
        ("an_append_is_whole", "Memory"): ["passed", "passed"],
        ("an_append_is_whole", "Files"): ["passed", "failed"],
        ("an_append_is_whole", "MongoDB"): ["passed", "skipped"],
        ("an_append_is_whole", "SQLite"): ["error"],
    }
    assert table(cells) == [
        "A Files    B Memory   C MongoDB",
        "D SQLite",
        "",
        "                      A    B    C    D",
        "an append is whole FAIL    2    1 FAIL",
        "it survives           1    –    –    –",
        "2 cases               2    2    1    0",
    ]
