"""A question before something that cannot be undone."""

import signal

import click


def confirmed(question: str) -> bool:
    """Whether the person at the terminal says yes; nobody there, and Ctrl-C, are a no.

    While it waits nothing else happens, a running reactor included; Ctrl-C would wait for that.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return click.confirm(question, err=True)
    except click.Abort:
        click.echo(err=True)
        return False
    finally:
        signal.signal(signal.SIGINT, before)
