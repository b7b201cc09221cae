"""Run the command as ``python -m luminoracore_sdk.cli``."""

from luminoracore_sdk.cli import run

if __name__ == "__main__":
    run()
