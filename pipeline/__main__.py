"""Makes `python -m pipeline`, also installed as `segformer`, the command line."""

import sys


def main() -> None:
    """Run the command line, or say what to install for it."""
    try:
        from pipeline.cli.app import main as run
    except ModuleNotFoundError as missing:
        if (missing.name or "").startswith("pipeline"):
            raise
        sys.exit(
            f"{missing.name} is not installed: the library does without it, the pipeline needs it;"
            " pip install 'segformer-cityscapes[pipeline]', in a clone '.[pipeline]'"
        )
    run()


if __name__ == "__main__":
    main()
