"""The wheel carries notebooks/ and params/, which `mentor-kit init` writes into a new project."""

from pathlib import Path
from shutil import copytree, ignore_patterns

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithProject(build_py):
    """Copies both folders into the package; pyproject.toml says everything else."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:  # an editable install finds them in the checkout
            for name in ("notebooks", "params"):
                copytree(name, Path(self.build_lib, "mentor_kit", "project", name),
                         dirs_exist_ok=True, ignore=ignore_patterns(".*", "__pycache__"))


setup(cmdclass={"build_py": BuildWithProject})
