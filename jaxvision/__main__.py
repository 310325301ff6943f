"""`python -m jaxvision` is the console script."""

from jaxvision.cli.console import main

if __name__ == "__main__":
    main()
