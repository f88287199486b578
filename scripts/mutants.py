"""Changes lines of the numeric core and runs the tests that cover them: a change that no test notices survives.

python scripts/mutants.py [--count N] [--seed S] [--files GLOB ...] [--json]

The changes are those of `mutations.py`. A copy of the project is changed, never the project. The tests of a module are
the files that import it, or import a module that imports it, and the contract of its role. For each change, the tests
that call the changed function run file by file, the quickest first, up to the first that fails. docs/MUTANTS.md has the
last results.
"""

from __future__ import annotations

import argparse
import ast
import fnmatch
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from mutations import Mutant, mutants

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "src/vidattr/"
CORE = ("methods/*", "metrics/*", "video/geometry.py", "video/preprocessing.py", "video/sampling.py", "video/blur.py")
CORE += ("evaluate/statistics.py", "evaluate/scores.py")
CONTRACTS = {"methods": "tests/test_methods_contract.py", "metrics": "tests/test_metrics_contract.py"}
# Imported once; every process that runs tests is a fork that has them already.
LIBRARIES = (
    "torch",
    "torchvision",
    "numpy",
    "pandas",
    "scipy.stats",
    "hydra",
    "omegaconf",
    "cv2",
    "pytest",
    "matplotlib",
)
TESTS_S = 60.0  # CPU seconds of tests that one change may run when nothing is changed: what is slower is left out


@dataclass
class Covered:
    """What one test costs, and the functions that it calls: "methods/osa.py:31", the file and the first line."""

    test: str
    seconds: float
    calls: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Verdict:
    """The outcome of a change: `killed`, `timeout` (killed, too), `survived`, or `uncovered` (no test calls it)."""

    file: str
    line: int
    before: str
    after: str
    how: str
    tests: int
    by: str = ""

    def __str__(self) -> str:
        return f"{self.how:9} {self.file}:{self.line}: {self.before}  →  {self.after}  ({self.tests} tests)"


class Project:
    """A copy of the project whose files can be changed and whose tests run in forks of this process."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.source = folder, folder / PACKAGE
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
        for name in filter(None, listed.split("\0")):
            if (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name)
        (self.source / "configs").symlink_to(folder / "configs")
        os.chdir(folder)
        paths = [str(folder / "src"), str(folder / "tests")]
        sys.path[:0] = paths
        # Hydra has a plug-in for pytest, which warns that it was imported before.
        os.environ |= {
            "PYTHONPATH": os.pathsep.join(paths),
            "OMP_NUM_THREADS": "1",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        }
        for library in LIBRARIES:
            import_module(library)
        import_module("torch").set_num_threads(1)
        self._covered: dict[str, list[Covered]] = {}

    @cached_property
    def files(self) -> list[str]:
        """The files of the numeric core, relative to the package."""
        names = (path.relative_to(self.source).as_posix() for path in sorted(self.source.rglob("*.py")))
        return [name for name in names if any(fnmatch.fnmatch(name, glob) for glob in CORE)]

    @cached_property
    def imports(self) -> dict[str, set[str]]:
        """By test file the modules of the package that it imports."""
        paths = sorted(self.folder.glob("tests/test_*.py"))
        return {path.relative_to(self.folder).as_posix(): _imports(path) for path in paths}

    def test_files(self, file: str) -> list[str]:
        """Returns a module's test files in the order in which they run.

        First those that import it, then those that import a module that imports it, then its role's contract; of each
        kind the one with the fewest imports first.
        """
        module = _module(file)
        above = {_module(name) for name in self.files if module in _imports(self.source / name)}
        found = []
        count = {name: sum(each.startswith("vidattr.") for each in names) for name, names in self.imports.items()}
        for wanted in ({module}, above):
            more = [name for name, names in self.imports.items() if names & wanted and name not in found]
            found += sorted(more, key=lambda name: (count[name], name))
        contract = CONTRACTS.get(file.partition("/")[0], "")
        found = [name for name in found if name != contract]
        return [*found, *([contract] if (self.folder / contract).is_file() else [])]

    def covered(self, test_file: str) -> list[Covered]:
        """Returns the tests of a file that pass as the project is, with what each calls."""
        if test_file not in self._covered:
            out = self.folder / "covered.json"
            out.unlink(missing_ok=True)
            code = self._fork(lambda: _trace(test_file, self.source, out), 3600)
            rows = json.loads(out.read_text()) if out.is_file() else []
            if code:  # tests that fail as the project is cannot tell a change
                _say(f"{test_file} ends with {code}:\n{(self.folder / 'log').read_text()[-2000:]}")
            self._covered[test_file] = [Covered(test, seconds, set(calls)) for test, seconds, calls in rows]
            seconds = sum(each.seconds for each in self._covered[test_file])
            _say(f"{test_file}: {len(rows)} tests that pass, {seconds:.0f} s")
        return self._covered[test_file]

    def judge(self, file: str, mutant: Mutant) -> Verdict:
        """Runs the tests of one change, test file by test file, up to the first test that fails."""
        path, by = self.source / file, self.folder / "killed_by"
        kept, scope = path.read_text("utf-8"), f"{file}:{mutant.scope}"
        how, count, left = "uncovered", 0, TESTS_S
        for name in self.test_files(file):
            tests = [test for test in self.covered(name) if _calls(test, scope if mutant.scope else f"{file}:")]
            tests.sort(key=lambda test: test.seconds)
            chosen, seconds = [], 0.0
            for test in tests:
                if seconds + test.seconds < left:
                    chosen.append(test.test)
                    seconds += test.seconds
            left -= seconds
            if not chosen:
                continue
            count += len(chosen)
            by.write_text("")
            self._change(path, mutant.source)
            try:
                code = self._fork(lambda chosen=chosen: _run(chosen, by), 20 + 5 * seconds)  # type: ignore[misc]
            finally:
                self._change(path, kept)
            how = {0: "survived", None: "timeout"}.get(code, "killed")
            if how != "survived":
                break
        return Verdict(file, mutant.line, mutant.before, mutant.after, how, count, by.read_text() if count else "")

    @staticmethod
    def _change(path: Path, text: str) -> None:
        path.write_text(text, "utf-8")
        for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
            compiled.unlink()

    def _fork(self, work: Callable[[], int], cpu_s: float) -> int | None:
        """Runs `work` in a fork. Returns its exit code; None if it takes more CPU seconds than `cpu_s`, or hangs."""
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            try:
                os.setsid()
                limit = int(cpu_s) + 1
                resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5))
                log = os.open(self.folder / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                os.dup2(log, 1)
                os.dup2(log, 2)
                os._exit(int(work()))
            except BaseException:
                traceback.print_exc()
                sys.stderr.flush()
                os._exit(70)
        until = time.monotonic() + 60 + 30 * cpu_s
        while True:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                code = os.waitstatus_to_exitcode(status)
                return None if code in (-signal.SIGXCPU, -signal.SIGKILL) else code
            if time.monotonic() > until:
                os.killpg(child, signal.SIGKILL)
                os.waitpid(child, 0)
                return None
            time.sleep(0.02)


def _module(file: str) -> str:
    return "vidattr." + file.removesuffix(".py").replace("/", ".")


def _imports(path: Path) -> set[str]:
    """Returns the modules that a file imports from, and the names that it imports, which may be modules."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _calls(test: Covered, scope: str) -> bool:
    """Returns whether a test calls the function that starts at `file:line`, or any of a file for `file:`."""
    return any(call.startswith(scope) for call in test.calls) if scope.endswith(":") else scope in test.calls


_QUIET = ["-q", "-x", "-p", "no:cacheprovider", "-p", "no:randomly", "--tb=no", "--no-header"]


def _run(tests: list[str], by: Path) -> int:
    """Runs the tests in this order up to the first that fails, whose name is written to `by`."""
    import pytest

    class Chosen:
        def pytest_collection_modifyitems(self, items: list[Any]) -> None:
            place = {test: i for i, test in enumerate(tests)}
            items[:] = sorted((item for item in items if item.nodeid in place), key=lambda item: place[item.nodeid])

        def pytest_runtest_logreport(self, report: Any) -> None:
            if report.failed:
                by.write_text(report.nodeid)

    files = list(dict.fromkeys(test.partition("::")[0] for test in tests))
    return int(pytest.main([*_QUIET, *files], plugins=[Chosen()]))


def _trace(test_file: str, source: Path, out: Path) -> int:
    """Runs one test file and writes what each test that passes costs and calls."""
    import pytest

    rows: list[tuple[str, float, list[str]]] = []
    seen: set[CodeType] = set()
    start = f"{source}{os.sep}" if not str(source).endswith(os.sep) else str(source)

    def called(frame: FrameType, *_: object) -> None:
        seen.add(frame.f_code)

    class Calls:
        failed = False

        @pytest.hookimpl(hookwrapper=True)
        def pytest_runtest_protocol(self, item: Any) -> Any:
            seen.clear()
            self.failed = False
            begin = time.process_time()
            threading.settrace(called)  # type: ignore[arg-type]
            sys.settrace(called)  # type: ignore[arg-type]
            yield
            sys.settrace(None)
            threading.settrace(None)  # type: ignore[arg-type]
            own = {
                f"{c.co_filename.removeprefix(start)}:{c.co_firstlineno}"
                for c in seen
                if c.co_filename.startswith(start)
            }
            if not self.failed:
                rows.append((item.nodeid, time.process_time() - begin, sorted(own)))

        def pytest_runtest_logreport(self, report: Any) -> None:
            self.failed |= not report.passed

    code = pytest.main([*(option for option in _QUIET if option != "-x"), test_file], plugins=[Calls()])
    out.write_text(json.dumps(rows))
    return int(code)


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100, help="changes to try, drawn by the seed; 0: all")
    parser.add_argument("--seed", type=int, default=0, help="decides which changes are drawn")
    parser.add_argument(
        "--files",
        nargs="*",
        default=["*"],
        help="globs inside src/vidattr, as metrics/* or metrics/flicker.py:57, a line",
    )
    parser.add_argument("--json", action="store_true", help="print every change and its end for programs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vidattr-mutants-") as folder:
        project = Project(Path(folder).resolve())
        found = [
            (name, each)
            for name in project.files
            for each in mutants((project.source / name).read_text("utf-8"))
            if any(fnmatch.fnmatch(place, glob) for place in (name, f"{name}:{each.line}") for glob in options.files)
        ]
        if not found:
            parser.error(
                f"--files {' '.join(options.files)} names no line of the numeric core, which is {', '.join(CORE)}"
            )
        if 0 < options.count < len(found):
            chosen = sorted(random.Random(options.seed).sample(range(len(found)), options.count))
        else:
            chosen = list(range(len(found)))
        verdicts = []
        for place in chosen:
            verdicts.append(project.judge(*found[place]))
            _say(str(verdicts[-1]))
    killed = sum(verdict.how in ("killed", "timeout") for verdict in verdicts)
    if options.json:
        rows = [verdict.__dict__ for verdict in verdicts]
        print(json.dumps({"seed": options.seed, "of": len(found), "killed": killed, "mutants": rows}, indent=1))
    else:
        for verdict in verdicts:
            if verdict.how not in ("killed", "timeout"):
                print(verdict)
        print(
            f"{killed} of {len(verdicts)} changes killed ({killed / len(verdicts):.1%}), of {len(found)} possible ones"
        )


if __name__ == "__main__":
    main()
