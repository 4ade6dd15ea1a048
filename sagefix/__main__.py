"""``python -m sagefix`` is the ``sagefix`` command."""

from sagefix.cli.app import main

if __name__ == "__main__":
    main()
