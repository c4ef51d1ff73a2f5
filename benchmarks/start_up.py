"""From the command to its first training step, beside what importing torch and transformers takes alone; one run.

    python benchmarks/start_up.py [--model gemma-3-270m] [--pack city-language:names=10,bridge=1] [--repeats 5]

All are processes of their own, timed from the moment at which they are started, in turns, after one untimed run each:
the converted model and all files read are then cached. `spillover inject` does everything that it does before it
trains, the first full examination and the losses on plain text included; it is stopped as its first step begins. The
others import the classes that load a model and a tokenizer, and load neither: once as one writes it, and once with the
base class of all models, which transformers imports as soon as it loads any.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NoReturn

IMPORTS = {
    "imports": "import torch, transformers; from transformers import AutoModelForCausalLM, AutoTokenizer",
    "with base class": "import torch, transformers; "
    "from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel",
}
FIRST_STEP = "first step"
#: The word that turns this file into the command to be watched.
WATCH = "watch"


class Watcher(MetaPathFinder):
    """Has the training module, as soon as the command itself imports it, tell when its first step begins.

    The module is not imported any earlier for that, so that the command starts up as it always does.
    """

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if name != "spillover.lm.train":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec is not None and spec.loader is not None
        execute = spec.loader.exec_module

        def execute_and_wrap(module: ModuleType) -> None:
            execute(module)
            assert hasattr(module, "training_step"), "the training loop's step has another name now: name it here"
            module.training_step = tell_and_stop

        spec.loader.exec_module = execute_and_wrap  # type: ignore[method-assign]
        return spec


def tell_and_stop(*_: object, **__: object) -> NoReturn:
    """Print the time on the wall clock, and end the process at once, without a step and without its clean-up."""
    print(time.time(), flush=True)
    os._exit(0)


def watched(words: list[str]) -> int:
    """Run `spillover` with these words up to its first training step."""
    sys.meta_path.insert(0, Watcher())
    from spillover.cli import main as command

    return command(words)


def seconds(words: list[str]) -> float:
    """From starting a Python process with these words to the time on the wall clock that it prints last."""
    began = time.time()
    done = subprocess.run([sys.executable, *words], stdout=subprocess.PIPE, text=True)
    if done.returncode or not done.stdout.strip():
        raise SystemExit(f"The process ended with code {done.returncode} and printed no time; its reason stands above.")
    return float(done.stdout.split()[-1]) - began


def to_first_step(pack: str, model: str) -> float:
    """Seconds to the first step of a run into a folder that is not there yet."""
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "run")
        return seconds([__file__, WATCH, "inject", pack, "--model", model, "--epochs", "1", "--out", out])


def to_imports(statements: str) -> float:
    """Seconds until these imports are done."""
    return seconds(["-c", f"{statements}; import time; print(time.time())"])


def summary(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} s ({min(values):.2f} to {max(values):.2f})"


def main() -> None:
    """Print the median of each with its least and greatest, and of what lies between them in each turn."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="gemma-3-270m")
    parser.add_argument("--pack", default="city-language:names=10,bridge=1")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    taken: dict[str, list[float]] = {name: [] for name in (*IMPORTS, FIRST_STEP)}
    for turn in range(options.repeats + 1):
        found = {name: to_imports(statements) for name, statements in IMPORTS.items()}
        found[FIRST_STEP] = to_first_step(options.pack, options.model)
        for name, took in found.items():
            # The first turn only warms the caches.
            taken[name] += [took] if turn else []
    print(f"spillover inject {options.pack} --model {options.model} --epochs 1")
    for name, values in taken.items():
        print(f"  {name:<28} {summary(values)}")
    for name in IMPORTS:
        between = [step - imports for step, imports in zip(taken[FIRST_STEP], taken[name], strict=True)]
        print(f"  {FIRST_STEP + ' - ' + name:<28} {summary(between)}")


if __name__ == "__main__":
    if sys.argv[1:2] == [WATCH]:
        sys.exit(watched(sys.argv[2:]))
    main()
