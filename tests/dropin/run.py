"""Other packages' own test-suites, before and after `@memoize` has taken the place of `functools.cache` on functions without parameters.

    python tests/dropin/run.py [NAME ...]

Downloads the source of each package into a temporary folder, installs it there with what its tests need, and runs the same part of
its tests twice. A package in which nothing was replaced, or no test passed, counts as failed.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LIMIT = 900  # seconds
MEMOIZE = '__import__("memoize_once").memoize'  # in place of the decorator, and no line moves
PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider")


@dataclass
class Package:
    name: str
    tests: tuple[str, ...]  # arguments for Python, in the folder of the source
    requirements: tuple[str, ...] = ()


PACKAGES = [
    Package("asttokens", (*PYTEST, "tests"), ("astroid",)),
    Package("babel", (*PYTEST, "tests/test_core.py", "tests/test_localedata.py", "tests/test_plural.py"), ("freezegun", "pytz")),
    Package(
        "django", ("tests/runtests.py", "--parallel=1", "utils_tests", "urlpatterns", "urlpatterns_reverse", "i18n.tests"), ("jinja2",)
    ),
    Package("markdown", ("-m", "unittest", "discover", "tests"), ("pyyaml",)),
    Package("openapi-schema-validator", (*PYTEST, "--override-ini=addopts=", "tests"), ("pytest-cov",)),
    Package("packaging", (*PYTEST, "tests/test_tags.py", "tests/test_manylinux.py", "tests/test_markers.py"), ("pretend", "tomli_w")),
    Package(
        "pydantic",
        (*PYTEST, "tests/test_main.py", "tests/test_fields.py"),
        ("dirty-equals", "jsonschema", "pytest-mock", "pytest-benchmark", "pytest-run-parallel", "pytz"),
    ),
    Package("tornado", ("-m", "tornado.test.runtests", "tornado.test.util_test", "tornado.test.web_test", "tornado.test.netutil_test")),
    Package(
        "xonsh",
        (*PYTEST, "tests/test_tools.py", "tests/test_commands_cache.py"),
        ("pygments", "prompt_toolkit", "pytest-mock", "pytest-timeout", "pytest-subprocess"),
    ),
    Package(
        "yt-dlp",
        (
            *PYTEST,
            "--config-file",
            os.devnull,
            "--rootdir",
            ".",
            "test/test_utils.py",
            "test/test_networking_utils.py",
            "test/test_YoutubeDL.py",
        ),
    ),
]


def is_cache(decorator: ast.expr) -> bool:
    """Whether it is `functools.cache` or `functools.lru_cache`, with or without `functools.`, parentheses and options."""
    name = ast.unparse(decorator.func if isinstance(decorator, ast.Call) else decorator)
    return name in ("cache", "lru_cache", "functools.cache", "functools.lru_cache")


def replaceable(tree: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """The functions without parameters that are cached, and their decorators."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and not ast.unparse(node.args):
            for decorator in node.decorator_list:
                if is_cache(decorator):
                    yield node.name, decorator


def replace(folder: Path) -> list[str]:
    """Replaces the decorators in all files but those of tests; gives the names of the functions."""
    names = []
    for file in sorted(folder.rglob("*.py")):
        if {"test", "tests", "testing"} & set(file.relative_to(folder).parts):
            continue
        source = file.read_bytes()
        try:
            found = list(replaceable(ast.parse(source)))
        except SyntaxError:  # a template
            continue
        lines = source.splitlines(keepends=True)
        for name, decorator in found:
            assert decorator.end_lineno == decorator.lineno, f"{file}:{decorator.lineno} takes more than one line"
            line = lines[decorator.lineno - 1]
            lines[decorator.lineno - 1] = line[: decorator.col_offset] + MEMOIZE.encode() + line[decorator.end_col_offset :]
            names.append(name)
        file.write_bytes(b"".join(lines))
    return names


def run(command: list[str], folder: Path) -> str:
    return subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=LIMIT).stdout


def outcomes(output: str) -> Counter[str]:
    """What the last lines of pytest or unittest say: how many passed, failed and so on."""
    counts = Counter(
        {what: int(number) for number, what in re.findall(r"(\d+) (passed|failed|errors?|skipped|xfailed|xpassed)\b", output[-2000:])}
    )
    for ran, verdict in re.findall(r"^Ran (\d+) tests? in .*\n+(OK|FAILED)", output, re.MULTILINE):
        counts.update(passed=int(ran)) if verdict == "OK" else counts.update(failed=int(ran))
    return counts


def check(package: Package, folder: Path) -> tuple[str, bool]:
    """A line of the table, and whether the package passed."""
    sdists = folder / "sdist"
    download = ["download", "--quiet", "--no-deps", "--no-binary", package.name, "--dest", str(sdists), package.name]
    run([sys.executable, "-m", "pip", *download], folder)
    [sdist] = sdists.glob("*.tar.gz")
    shutil.unpack_archive(sdist, folder / "source", filter="data")
    [source] = (folder / "source").iterdir()
    venv.create(folder / "venv", with_pip=True)
    python = str(folder / "venv" / "bin" / "python")
    here = str(Path(__file__).parents[2])
    run([python, "-m", "pip", "install", "--quiet", "--editable", ".", "--editable", here, "pytest", *package.requirements], source)
    before = outcomes(run([python, *package.tests], source))
    names = replace(source)
    after = outcomes(run([python, *package.tests], source))
    passed = bool(names) and after["passed"] > 0 and before == after
    version = sdist.name.removesuffix(".tar.gz").rpartition("-")[2]
    shown = [", ".join(f"{number} {what}" for what, number in counts.items()) or "none" for counts in (before, after)]
    return f"| {package.name} | {version} | {len(names)} | {shown[0]} | {shown[1]} | {'yes' if passed else 'NO'} |", passed


def main(*names: str) -> int:
    chosen = [package for package in PACKAGES if package.name in names or not names]
    print("| package | version | replaced | before | after | passed |\n|---|---|---|---|---|---|", flush=True)
    count = 0
    with tempfile.TemporaryDirectory(prefix="dropin") as temporary:
        for package in chosen:
            folder = Path(temporary, package.name)
            folder.mkdir()
            line, passed = check(package, folder)
            count += passed
            print(line, flush=True)
    print(f"\n{count} of {len(chosen)} passed", flush=True)
    return 0 if count == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
