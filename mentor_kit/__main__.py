"""`python -m mentor_kit` is `mentor-kit`."""

from mentor_kit.cli import app

if __name__ == "__main__":
    app()
