"""How the commands of this package begin and end."""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from rich.console import Console

from sdp import UserError


def run(work: Callable[[Console], Iterable[Path]], kept: str = "what is finished is kept") -> int:
    """An exit code: 0 and what ``work`` made on the screen, 1 and one sentence, 130 where it was interrupted; ``kept``: what is not lost then."""
    console = Console(width=None if sys.stdout.isatty() else 170)
    try:
        made = list(work(console))
    except UserError as error:
        print(f"compare: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"compare: stopped; {kept}, the same command goes on from there", file=sys.stderr)
        return 130
    for path in made:
        console.print(f"made {path}", highlight=False)
    return 0
