"""Text from elsewhere made printable: it can be stored as UTF-8 and does nothing to a terminal."""


def printable(text: str) -> str:
    r"""Return the text with every unprintable character as a visible escape, such as `\u202e`.

    Unprintable are control characters, bidi marks, other invisible characters and lone surrogates.
    """
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)


def encodable(text: str) -> str:
    """Return the text with lone surrogates as visible escapes and all else as it is."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
