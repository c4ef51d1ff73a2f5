"""Builds the wheel, installs it into an empty environment of each Python that is named, and uses it there.

python tools/try_wheel.py python3.11 python3.12 python3.13 python3.14
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: What the light install can do: packs, the exact theory, a training file, and a page.
COMMANDS = (
    "--version",
    "packs",
    "check country-code:pairs=2,names=6,bridge=1",
    "packs export country-code:pairs=2,names=6,bridge=1 facts",
    "predict facts --out prediction",
    "report prediction --out page.html",
)


def run(*words: str | Path, folder: Path) -> str:
    """What a command prints. Raises RuntimeError with all that it said when it fails."""
    done = subprocess.run([str(word) for word in words], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, words))}\n{done.stdout}{done.stderr}")
    return done.stdout


def wheel(folder: Path) -> Path:
    """The wheel of this checkout."""
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    # Built from a copy of what is tracked, so that nothing is left in the checkout and nothing stale gets in.
    copy = folder / "source"
    copy.mkdir()
    for name in run("git", "ls-files", "src", "pyproject.toml", "README.md", "LICENSE", "NOTICE", folder=ROOT).split():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes((ROOT / name).read_bytes())
    run(*pip, "wheel", "--no-deps", "--wheel-dir", folder, copy, folder=folder)
    return next(folder.glob("*.whl"))


def try_with(python: str, built: Path, folder: Path) -> str:
    """Install the wheel into an empty environment and use it; gives the versions of Python and of Spillover."""
    environment = folder / f"with-{Path(python).name}"
    run(python, "-m", "venv", environment, folder=folder)
    own = environment / "bin"
    run(own / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", built, folder=environment)
    said = [run(own / "spillover", *command.split(), folder=environment) for command in COMMANDS]
    assert (environment / "page.html").stat().st_size > 10_000
    return f"{run(own / 'python', '--version', folder=environment).strip()}: spillover {said[0].strip()}"


def main(pythons: list[str]) -> None:
    """Try each, one after the other."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        built = wheel(folder)
        for number, python in enumerate(pythons):
            (each := folder / str(number)).mkdir()
            print(try_with(python, built, each), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or [sys.executable])
