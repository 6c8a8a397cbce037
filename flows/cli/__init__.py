"""The command line `fetalflow COMMAND`: one file per group of commands; `app.main` is the entry point."""
