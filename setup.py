from setuptools import setup
from setuptools.command.sdist import sdist


class WithTests(sdist):
    """A source distribution whose tests run: by itself setuptools takes tests/test*.py alone."""

    def make_distribution(self) -> None:
        self.filelist.recursive_include("tests", "*")
        self.filelist.recursive_include(".ci", "*")
        self.filelist.include(".ruff.toml")
        self.filelist.global_exclude("*.py[cod]")
        super().make_distribution()


setup(cmdclass={"sdist": WithTests})
