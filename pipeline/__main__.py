"""The command line: `python -m pipeline`, also installed as `segformer`."""

import sys


def main() -> None:
    """Run the command line; exit with a message if one of its packages is not installed."""
    try:
        from pipeline.cli.app import main as run_command_line
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("pipeline"):
            raise
        sys.exit(
            f"{error.name} is not installed, and the pipeline needs it:"
            " pip install 'segformer-cityscapes[pipeline]', or '.[pipeline]' in a clone"
        )
    run_command_line()


if __name__ == "__main__":
    main()
