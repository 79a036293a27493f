"""`python -m trollproxy`."""

from trollproxy.cli import main

if __name__ == "__main__":
    main()
