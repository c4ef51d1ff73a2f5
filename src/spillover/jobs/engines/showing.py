"""Runs of an engine behind a bar that counts them, names failures and tells the time left."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator

from spillover.jobs.engines import Ended, Task


def shown(engine: Callable[[Iterable[list[Task]]], Iterator[Ended]], parts: Iterable[list[Task]]) -> Iterator[Ended]:
    """What `engine` gives for the parts, each as it ends."""
    from tqdm import tqdm

    with tqdm(total=0, unit="run", dynamic_ncols=True, smoothing=0.1, disable=None) as bar:

        def counted() -> Iterator[list[Task]]:
            for part in parts:
                bar.total += len(part)
                bar.refresh()
                yield part

        for ended in engine(counted()):
            bar.update()
            if ended.error:
                bar.write(f"{ended.key[0]}: {ended.error}", file=sys.stderr)
            yield ended
