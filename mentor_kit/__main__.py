"""`python -m mentor_kit` is `mentor-kit`."""

from mentor_kit.cli.app import app

if __name__ == "__main__":
    app()
