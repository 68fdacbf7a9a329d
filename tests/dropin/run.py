"""Other packages' own test-suites, before and after `@memoize` has taken the place of
`functools.cache` on functions without parameters.

    python tests/dropin/run.py [NAME ...]

Installs the source of each package, with what its tests need, into a temporary folder, and runs the
same part of its tests twice. Where nothing was replaced, or no test passed, that counts as failed.
"""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from collections import Counter
from pathlib import Path
from typing import Any

LIMIT = 900  # seconds
MEMOIZE = b'__import__("memoize_once").memoize'  # in place of the decorator, and no line moves
CACHES = ("cache", "lru_cache", "functools.cache", "functools.lru_cache")
PYTEST = "-m pytest -q -p no:cacheprovider"

# for each package the arguments for Python, in the folder of its source; and what its tests need
PACKAGES = """
asttokens: PYTEST tests; astroid
babel: PYTEST tests/test_locale_class.py tests/test_localedata.py tests/test_plural.py; freezegun \
 pytz
django: tests/runtests.py --parallel=1 utils_tests urlpatterns_reverse i18n.tests; jinja2
markdown: -m unittest discover tests; pyyaml
openapi-schema-validator: PYTEST --override-ini=addopts= tests; pytest-cov
packaging: PYTEST tests/test_tags.py tests/test_manylinux.py tests/test_markers.py; pretend tomli_w
pydantic: PYTEST tests/test_main.py tests/test_fields.py; dirty-equals jsonschema pytest-mock \
 pytest-benchmark pytest-run-parallel pytz
tornado: -m tornado.test.runtests tornado.test.util_test tornado.test.web_test \
 tornado.test.netutil_test;
xonsh: PYTEST tests/test_tools.py tests/test_commands_cache.py; pygments prompt_toolkit \
 pytest-mock pytest-timeout pytest-subprocess
yt-dlp: PYTEST --config-file /dev/null --rootdir . test/test_utils.py test/test_YoutubeDL.py \
 test/test_networking_utils.py;
""".replace("PYTEST", PYTEST)


def cached(node: ast.AST) -> list[ast.expr]:
    """The decorators that cache this function, if it has no parameters."""
    if not isinstance(node, ast.FunctionDef) or ast.unparse(node.args):
        return []
    names = [each.func if isinstance(each, ast.Call) else each for each in node.decorator_list]
    pairs = zip(names, node.decorator_list, strict=True)
    return [each for name, each in pairs if ast.unparse(name) in CACHES]


def replace(folder: Path) -> int:
    """Replaces the decorators in all files but those of tests, and counts them."""
    count = 0
    for file in folder.rglob("*.py"):
        if {"test", "tests", "testing"} & set(file.relative_to(folder).parts):
            continue
        lines = file.read_bytes().splitlines(keepends=True)
        try:
            tree = ast.parse(b"".join(lines))
        except SyntaxError:  # a template
            continue
        for decorator in [each for node in ast.walk(tree) for each in cached(node)]:
            line, end = decorator.lineno - 1, decorator.end_col_offset
            assert decorator.end_lineno == decorator.lineno, f"{file}:{line} takes several lines"
            lines[line] = lines[line][: decorator.col_offset] + MEMOIZE + lines[line][end:]
            count += 1
        file.write_bytes(b"".join(lines))
    return count


def run(python: str | Path, arguments: str, folder: Path) -> str:
    command = [str(python), *arguments.split()]
    options: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return str(subprocess.run(command, cwd=folder, timeout=LIMIT, **options).stdout)


def outcomes(output: str) -> Counter[str]:
    """What the last lines of pytest or unittest say: how many passed, failed and so on."""
    pattern = r"(\d+) (passed|failed|errors?|skipped|xfailed|xpassed)\b"
    counts = Counter({what: int(n) for n, what in re.findall(pattern, output[-2000:])})
    for n, verdict in re.findall(r"^Ran (\d+) tests? in .*\n+(OK|FAILED)", output, re.MULTILINE):
        counts["passed" if verdict == "OK" else "failed"] += int(n)
    return counts


def check(name: str, folder: Path) -> bool:
    """Prints a line of the table; gives whether the package passed."""
    [line] = [line for line in PACKAGES.splitlines() if line.startswith(f"{name}: ")]
    tests, requirements = line.removeprefix(f"{name}: ").split(";")
    download = f"-m pip download --quiet --no-deps --no-binary {name} --dest sdist {name}"
    run(sys.executable, download, folder)
    [sdist] = (folder / "sdist").glob("*.tar.gz")
    shutil.unpack_archive(sdist, folder / "source", filter="data")
    [source] = (folder / "source").iterdir()
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    here = Path(__file__).parents[2]
    run(python, f"-m pip install --quiet -e . -e {here} pytest {requirements}", source)
    before = outcomes(run(python, tests, source))
    count = replace(source)
    after = outcomes(run(python, tests, source))
    passed = bool(count and after["passed"] and before == after)
    shown = [", ".join(f"{n} {what}" for what, n in each.items()) for each in (before, after)]
    columns = [source.name, str(count), *shown, "yes" if passed else "NO"]
    print(f"| {' | '.join(columns)} |", flush=True)
    return passed


def main(*names: str) -> int:
    print("| package | replaced | before | after | passed |\n|---|---|---|---|---|", flush=True)
    passed = []
    with tempfile.TemporaryDirectory(prefix="dropin") as temporary:
        for name in names or re.findall(r"^[\w-]+(?=:)", PACKAGES, re.MULTILINE):
            folder = Path(temporary, name)
            folder.mkdir()
            passed.append(check(name, folder))
    print(f"\n{sum(passed)} of {len(passed)} passed", flush=True)
    return not all(passed)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
