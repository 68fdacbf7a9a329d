"""Mutants: the package is changed in one place after another, and each time some test has to notice.

    coverage run tests/mutants/run.py record [ARGUMENTS OF PYTEST]    which test executes which lines, and how long it takes
    coverage combine --keep                                           (together with earlier records)
    python tests/mutants/run.py MODULE [MODULE ...]                   `_once` and so on; goes on where it was stopped
    python tests/mutants/run.py --again SECONDS MODULE [...]          the survivors once more, by more tests
    python tests/mutants/run.py --list MODULE [...]                   the survivors so far

Those in `equivalent.txt` may survive: it says why no test can tell them.

Leave out tests with a fixture that serves several (`--ignore=tests/test_application.py`): each would pay for it alone here.

A mutant is judged by the tests that execute the changed lines, fastest first, until one fails or SECONDS of tests (5) have passed; a
hang counts as a failure. Statements are deleted, too: cosmic-ray has no operator for that, and this package consists of steps in the
right order; mutmut's trampolines would stand in the frames that it looks at. Files are changed in place: let it run in its own clone.
"""

from __future__ import annotations

import ast
import copy
import json
import os
import re
import signal
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import coverage
import pytest

ROOT = Path(__file__).parents[2]
DURATIONS = ROOT / ".coverage-durations"
RESULTS = ROOT / ".coverage-mutants"
EQUIVALENT = Path(__file__).with_name("equivalent.txt")
SECONDS = 5.0
SURVIVED = "SURVIVED"
FAILED = "FAILED", "ERROR"
UNSEEN = ("tests/test_interleavings.py", "tests/test_signals.py")  # they trace the library themselves, so coverage does not

# Which test executes what ---------------------------------------------------------------------------------------------------------


class Recorder:
    """Makes each test a context of coverage, in the processes that it starts and forks as well."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        measured = coverage.Coverage.current()
        assert measured is not None, "to be run by `coverage run`"
        measured.set_option("run:context", item.nodeid)
        os.environ["COVERAGE_PROCESS_CONFIG"] = measured.config.serialize()
        measured.switch_context(item.nodeid)
        since = time.perf_counter()
        try:
            return (yield)
        finally:
            with DURATIONS.open("a") as file:
                file.write(json.dumps([item.nodeid, time.perf_counter() - since]) + "\n")
            measured.switch_context("")


class Patience:
    """Ends a test that takes much longer than it did."""

    def __init__(self, durations: dict[str, float], patience: int) -> None:
        self.durations = durations
        self.patience = patience

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            item.add_marker(pytest.mark.timeout(self.patience * (3 + 5 * self.durations[item.nodeid])), append=False)


def durations() -> dict[str, float]:
    return dict(json.loads(line) for line in DURATIONS.read_text().splitlines())


def executed(path: Path) -> dict[int, list[str]]:
    """The tests that execute each line; in other clones' data, too."""
    data = coverage.CoverageData(str(ROOT / ".coverage"))
    data.read()
    (measured,) = [file for file in data.measured_files() if file.endswith(f"/memoize_once/{path.name}")]
    return data.contexts_by_lineno(measured)


# Mutants --------------------------------------------------------------------------------------------------------------------------

COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.Lt),
}
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.FloorDiv: ast.Mult,
    ast.BitAnd: ast.BitOr,
}
ANNOTATIONS = {"annotation", "returns"}  # never evaluated
DELETED = (ast.Assign, ast.AugAssign, ast.Delete, ast.Raise, ast.Expr)
NEGATIONS = (ast.Eq, ast.NotEq, ast.Is, ast.IsNot, ast.In, ast.NotIn)


class Mutant(NamedTuple):
    place: ast.expr | ast.stmt | ast.ExceptHandler
    text: str  # what stands there instead
    lines: tuple[int, int]  # whose tests judge it


def changed(node: ast.AST) -> Iterator[ast.AST]:
    """What may stand in place of an expression."""
    true, false = ast.Constant(True), ast.Constant(False)
    match node:
        case ast.Compare():
            for i, operator in enumerate(node.ops):
                for other in COMPARISONS[type(operator)]:
                    yield ast.Compare(node.left, [*node.ops[:i], other(), *node.ops[i + 1 :]], node.comparators)
        case ast.BoolOp():
            for i in range(len(node.values)):
                rest = node.values[:i] + node.values[i + 1 :]
                yield rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest)
        case ast.UnaryOp(op=ast.Not()):
            yield node.operand
        case ast.IfExp():
            yield node.body
            yield node.orelse
        case ast.Constant(value=bool()):
            yield false if node.value else true
        case ast.Constant(value=int(number)):
            yield ast.Constant(number + 1)
        case ast.BinOp() if type(node.op) in OPERATORS:
            yield ast.BinOp(node.left, OPERATORS[type(node.op)](), node.right)
        case ast.Call(func=ast.Name(id="list" | "tuple"), args=[whole]):  # a copy
            yield whole
        case ast.Call():
            for i in range(len(node.keywords)):
                yield ast.Call(node.func, node.args, node.keywords[:i] + node.keywords[i + 1 :])
        case ast.ListComp() | ast.GeneratorExp() | ast.SetComp() | ast.DictComp():
            for i, comprehension in enumerate(node.generators):
                if comprehension.ifs:
                    other_one = copy.deepcopy(node)
                    other_one.generators[i].ifs = []
                    yield other_one


def mutants(tree: ast.Module) -> Iterator[Mutant]:
    yield from _mutants(tree, (1, 1))


def _mutants(node: ast.AST, lines: tuple[int, int]) -> Iterator[Mutant]:
    if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]).startswith("__"):  # __slots__, __tracebackhide__
        return
    if isinstance(node, ast.FunctionDef) and any(ast.unparse(each) == "overload" for each in node.decorator_list):  # never called
        return
    for field, value in ast.iter_fields(node):
        if field in ANNOTATIONS or isinstance(node, ast.JoinedStr) or (isinstance(node, ast.AnnAssign) and node.value is None):
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST):
                continue
            if isinstance(child, ast.expr | ast.stmt | ast.ExceptHandler) and not isinstance(node, ast.arguments):
                lines = child.lineno, child.end_lineno or child.lineno
            yield from _of(child, field, lines)
            yield from _mutants(child, lines)


def _of(node: ast.AST, field: str, lines: tuple[int, int]) -> Iterator[Mutant]:
    if isinstance(node, ast.expr) and field == "decorator_list":
        return
    negation = (isinstance(node, ast.Compare) and isinstance(node.ops[0], NEGATIONS)) or isinstance(node, ast.UnaryOp)
    if isinstance(node, ast.expr) and not (field == "test" and negation):  # of a statement, which is made True and False as a whole
        for other in changed(node):
            yield Mutant(node, f"({ast.unparse(ast.fix_missing_locations(other))})", lines)
    if isinstance(node, DELETED) and not _dull(node):
        yield Mutant(node, "pass", lines)
    if isinstance(node, ast.Return) and node.value is not None:
        yield Mutant(node, "return None", lines)
    if isinstance(node, ast.Break | ast.Continue):
        yield Mutant(node, "pass", lines)
    if isinstance(node, ast.If):
        yield Mutant(node.test, "True", (node.test.lineno, node.test.end_lineno or 0))
        yield Mutant(node.test, "False", (node.test.lineno, node.test.end_lineno or 0))
    if isinstance(node, ast.While):
        yield Mutant(node.test, "False", (node.test.lineno, node.test.end_lineno or 0))
    if isinstance(node, ast.ExceptHandler) and node.type is not None:
        yield Mutant(node.type, "()", lines)
    if isinstance(node, ast.With | ast.AsyncWith):
        for item in node.items:
            if item.optional_vars is None:
                yield Mutant(item.context_expr, "__import__('contextlib').nullcontext()", lines)


def _dull(node: ast.stmt) -> bool:
    """A docstring, or a name that is missed at once."""
    return (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)) or (
        isinstance(node, ast.Assign) and all(isinstance(target, ast.Name) for target in node.targets)
    )


def function_at(line: int, tree: ast.Module) -> str:
    """The name of the innermost function around the line."""
    around = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    around = [node for node in around if node.lineno <= line <= (node.end_lineno or 0)]
    return around[-1].name if around else "module"


def spliced(source: bytes, mutant: Mutant) -> bytes:
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    place = mutant.place
    begin = starts[place.lineno - 1] + place.col_offset
    end = starts[(place.end_lineno or 0) - 1] + (place.end_col_offset or 0)
    return source[:begin] + mutant.text.encode() + source[end:]


# Judging --------------------------------------------------------------------------------------------------------------------------


def judged_by(mutant: Mutant, again: bool, times: dict[str, float], tests_of: dict[int, list[str]], seconds: float) -> list[str]:
    names = {name for name in times if again and name.startswith(UNSEEN)}
    for line in range(mutant.lines[0], mutant.lines[1] + 1):
        names.update(tests_of.get(line, ()))
    if not names or "" in names:  # executed by the import, or under the name of a file of the user's
        names = set(times)
    chosen, left = [], seconds
    for name in sorted(names & times.keys(), key=times.__getitem__):
        left -= times[name]
        if left < 0:
            break
        chosen.append(name)
    return chosen


def judge(tests: list[str], times: dict[str, float], seconds: float) -> str:
    """The test that fails, or that none does. What hangs may only be slow, on a busy machine: that is believed the second time."""
    for patience in (1, 4):
        verdict = judged_once(tests, times, patience, patience * (30 + 3 * seconds))
        if verdict == SURVIVED or verdict.startswith(FAILED):
            break
    return verdict


def judged_once(tests: list[str], times: dict[str, float], patience: int, limit: float) -> str:
    """In a fork, since the packages that tests import are imported once then."""
    output = ROOT / ".coverage-output"
    child = os.fork()
    if not child:
        os.setsid()
        file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        status: int = 1
        try:
            status = pytest.main(["-x", "-v", "--tb=line", "-p", "no:cacheprovider", *tests], plugins=[Patience(times, patience)])
        finally:
            sys.stdout.flush()
            os._exit(status)
    deadline = time.monotonic() + limit
    ended = 0
    while not ended and time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        time.sleep(0.01)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # what it has left, too
    if not ended:
        os.waitpid(child, 0)
        return "a hang"
    if status == 0:
        return SURVIVED
    lines = [line for line in output.read_text(errors="replace").splitlines() if "tests/" in line]
    return next((line for line in lines if line.startswith(FAILED)), f"status {status} in {lines[-1:]}")


def results() -> dict[str, str]:
    return dict(json.loads(line) for line in RESULTS.read_text().splitlines()) if RESULTS.exists() else {}


def equivalent(name: str) -> bool:
    """Whether it is listed as that, without its place."""
    return re.sub(r":\d+:\d+", "", name, count=1) in EQUIVALENT.read_text().splitlines()


def run(path: Path, again: bool, seconds: float) -> None:
    source, times, tests_of, known = path.read_bytes(), durations(), executed(path), results()
    tree = ast.parse(source)
    for mutant in mutants(tree):
        place = mutant.place
        before = ast.unparse(place) if not isinstance(place, ast.stmt) else ast.unparse(place).splitlines()[0]
        name = f"{path.name}:{place.lineno}:{place.col_offset}: {function_at(place.lineno, tree)}: {before}  ->  {mutant.text}"
        if (known.get(name) != SURVIVED if again else name in known) or equivalent(name) or spliced(source, mutant) == source:
            continue
        tests = judged_by(mutant, again, times, tests_of, seconds)
        try:
            path.write_bytes(spliced(source, mutant))
            verdict = judge(tests, times, seconds)
        finally:
            path.write_bytes(source)
        with RESULTS.open("a") as file:
            file.write(json.dumps([name, verdict]) + "\n")


def main(arguments: list[str]) -> None:
    if arguments[0] == "record":
        raise SystemExit(pytest.main(arguments[1:], plugins=[Recorder()]))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # puts the file back
    again, listing = arguments[0] == "--again", arguments[0] == "--list"
    seconds = float(arguments.pop(1)) if again else SECONDS
    for module in arguments[again or listing :]:
        path = ROOT / "memoize_once" / f"{module}.py"
        if not listing:
            run(path, again, seconds)
        of_module = {name: verdict for name, verdict in results().items() if name.startswith(f"{path.name}:")}
        survivors = [name for name, verdict in of_module.items() if verdict == SURVIVED and not equivalent(name)]
        print(*survivors, f"{path.name}: {len(of_module)} mutants, {len(survivors)} survivors", sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
