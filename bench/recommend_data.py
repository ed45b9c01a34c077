"""`python -m bench.recommend_data IN.json OUT.jsonl`: ShareGPT conversations with tools as messages, for `bench.recommend`.

The tools go into a system message, a function call is the assistant's turn, and what the function returned is the user's.
"""

import json
import sys
from pathlib import Path
from typing import Any

ROLES = {"system": "system", "human": "user", "gpt": "assistant", "function_call": "assistant", "observation": "user"}


def messages(row: dict[str, Any]) -> list[dict[str, str]]:
    """Raises KeyError for a turn of an unknown kind."""
    turns = [{"role": ROLES[turn["from"]], "content": turn["value"]} for turn in row["conversations"]]
    tools = row.get("tools")
    return [{"role": "system", "content": f"Tools: {tools}"}, *turns] if tools and tools != "[]" else turns


def main() -> None:
    rows = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    lines = (json.dumps({"messages": messages(row)}, ensure_ascii=False) + "\n" for row in rows)
    Path(sys.argv[2]).write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
