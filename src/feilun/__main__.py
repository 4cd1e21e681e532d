"""``python -m feilun``: the same as ``feilun``."""

if __name__ == "__main__":
    from feilun.cli.main import main

    main()
