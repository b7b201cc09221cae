"""Stop words: function words that say nothing about what a text is about.

Lower case, without apostrophes: ``don't`` is the words ``don`` and ``t``. They are part of an analyzer's id, so
that a change here makes the texts of a store be indexed again.
"""

__all__ = ["STOP_WORDS"]

_WORDS = {
    "english": """
        a about after again all also am an and any are aren as at be because been before being both but by can
        could couldn d did didn do does doesn doing don down during each few for from further had hadn has hasn have
        haven having he her here hers herself him himself his how i if in into is isn it its itself just let ll m
        me more most mustn my myself no nor not now of off on once only or other our ours ourselves out over own re
        s same shan she should shouldn so some such t than that the their theirs them themselves then there these
        they this those through to too under until up us ve very was wasn we were weren what when where which while
        who whom why will with won would wouldn you your yours yourself yourselves
    """,
}

STOP_WORDS = {language: frozenset(words.split()) for language, words in _WORDS.items()}
"""By language."""
