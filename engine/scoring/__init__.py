"""How good answers are, and whether a tuned model's are better than its base's. Pure: no torch, no files, no database.

`kind_of` says what kind of answers a data set has, `finish` scores a row, `summarise` makes the summary of an evaluation.
"""

from engine.scoring.answers import score_answer
from engine.scoring.bootstrap import compare
from engine.scoring.forgotten import forgetting
from engine.scoring.kinds import kind_of
from engine.scoring.rows import finish
from engine.scoring.summary import summarise

__all__ = ["compare", "finish", "forgetting", "kind_of", "score_answer", "summarise"]
