"""`nsa`, also as `python -m nsa_cli`."""

from nsa_cli.app import app


def main() -> None:
    """Run the program."""
    app()


if __name__ == "__main__":
    main()
