"""`python -m jaxvision` is the console script."""

from jaxvision.cli.main import main

if __name__ == "__main__":
    main()
