"""Reading annotation files: whatever is wrong with one becomes a sentence with file and place."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aurora_vl.data.text import is_blank
from aurora_vl.errors import UserError

Entry = dict[str, Any]
_ANNOTATIONS = "check data.annotations"
_TOO_LONG = "a number of thousands of digits: correct it"
# Escapes of JSON; the group is one of a UTF-16 surrogate without the other half of its pair.
_ESCAPES = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    r"|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)"
)


def read_json(path: Path, way_out: str = _ANNOTATIONS) -> Any:
    """Return a JSON file's value.

    Args:
        path: of the file.
        way_out: what to do where it is absent, as in `read_text`.

    Raises:
        UserError: the file cannot be read, is not JSON (with line and column), writes a key of an
            object twice, or holds half a character.
    """
    text = read_text(path, way_out)
    _refuse_half_characters(text, path)
    try:
        return json.loads(text, object_pairs_hook=_no_duplicates)
    except _DuplicateKeyError as error:
        raise UserError(
            f"{path} has an object with the key {error.args[0]!r} twice: keep one"
        ) from None
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path} is not valid JSON, line {error.lineno} column {error.colno} ({error.msg}): "
            "mend it or download it again"
        ) from None
    except RecursionError:
        raise UserError(f"{path} is nested too deeply to be an annotation file") from None
    except ValueError:
        raise UserError(f"{path} holds {_TOO_LONG}") from None


def read_json_lines(path: Path) -> Iterator[tuple[str, Entry]]:
    """Yield (place, entry) for each line that is not blank; the place is "FILE line N".

    Raises:
        UserError: a line is not a JSON object, writes a key twice, or holds half a character.
    """
    text = read_text(path)
    _refuse_half_characters(text, path)
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        place = f"{path} line {number}"
        try:
            entry = json.loads(line, object_pairs_hook=_no_duplicates)
        except json.JSONDecodeError as error:
            raise UserError(
                f"{place} is not valid JSON ({error.msg} at column {error.colno}): write one "
                "object a line"
            ) from None
        except _DuplicateKeyError as error:
            raise UserError(f"{place} has the key {error.args[0]!r} twice: keep one") from None
        except RecursionError:
            raise UserError(f"{place} is nested too deeply: write one flat object a line") from None
        except ValueError:
            raise UserError(f"{place} holds {_TOO_LONG}") from None
        yield place, as_object(entry, place)


def read_text(path: Path, way_out: str = _ANNOTATIONS) -> str:
    """Return a text file's content, with or without a byte-order mark.

    Args:
        path: of the file.
        way_out: the end of the sentence where it is absent, naming what says where it is.

    Raises:
        UserError: the file is absent, may not be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: {way_out}") from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not UTF-8 text (byte {error.start}): save it as UTF-8"
        ) from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): check the file") from None


def _refuse_half_characters(text: str, path: Path) -> None:
    """Neither a tokenizer nor a file's name can hold one, and no terminal shows it."""
    half = next((found for found in _ESCAPES.finditer(text) if found[1]), None)
    if half is not None:
        line = text.count("\n", 0, half.start()) + 1
        raise UserError(
            f"{path} line {line} holds \\{half[1]}, half of a character whose other half lacks: "
            "write the whole one or take it out"
        )


def is_there(path: Path) -> bool:
    """Whether a folder holds an annotation file that it may lack.

    Raises:
        UserError: something else bears its name, such as a folder or a link to nothing; read as
            absent, it would be left out in silence.
    """
    if path.is_file():
        return True
    if path.exists() or path.is_symlink():
        raise UserError(f"{path} is not a file: put the annotation file in its place or remove it")
    return False


def as_object(value: Any, place: str) -> Entry:
    """Return a JSON object, or raise a UserError saying what stands at `place` instead."""
    if not isinstance(value, dict):
        raise UserError(f"{place} is {_kind(value)}, not an object like {{...}}")
    return value


def as_list(value: Any, place: str) -> list[Any]:
    """Return a JSON list, or raise a UserError saying what stands at `place` instead."""
    if not isinstance(value, list):
        raise UserError(f"{place} is {_kind(value)}, not a list like [...]")
    return value


def text_of(entry: Entry, key: str, place: str) -> str:
    """Return the text under a key.

    Raises:
        UserError: the key is missing, not text, or only blanks.
    """
    value = _present(entry, key, place)
    if not isinstance(value, str):
        raise UserError(f"{place}: {key!r} is {_kind(value)}, not text in quotes")
    if not value.strip():
        raise UserError(f"{place}: {key!r} is empty")
    return value


def question_of(entry: Entry, place: str) -> str:
    """Return the text under "question".

    Raises:
        UserError: the key is missing, not text, or has no words.
    """
    question = text_of(entry, "question", place)
    require_words(question, "question", place)
    return question


def require_words(text: str, key: str, place: str) -> None:
    """Refuse a text of which cleaning would leave nothing, naming its key and place."""
    if is_blank(text):
        raise UserError(f"{place}: {key!r} holds {text!r}, which has no words")


def texts_of(entry: Entry, key: str, place: str) -> tuple[str, ...]:
    """Return the text, or the list of texts, under a key.

    Raises:
        UserError: the key is missing, its list is empty, or an entry is not text or has no words.
    """
    texts = any_texts_of(entry, key, place)
    for text in texts:
        require_words(text, key, place)
    return texts


def any_texts_of(entry: Entry, key: str, place: str) -> tuple[str, ...]:
    """As `texts_of`, but a text may be empty or of signs alone, as answers may be."""
    value = _present(entry, key, place)
    texts = value if isinstance(value, list) else [value]
    if not texts:
        raise UserError(f"{place}: {key!r} is an empty list: write at least one, or drop the entry")
    for text in texts:
        if not isinstance(text, str):
            raise UserError(f"{place}: {key!r} holds {_kind(text)} where text in quotes belongs")
    return tuple(texts)


def _present(entry: Entry, key: str, place: str) -> Any:
    if key not in entry:
        found = ", ".join(map(repr, entry)) or "none"
        raise UserError(f"{place} has no key {key!r} (its keys: {found})")
    return entry[key]


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false"}
    names |= {int: "a number", float: "a number", type(None): "null"}
    return names[type(value)]


class _DuplicateKeyError(Exception):
    """Carries the key a JSON object writes twice."""


def _no_duplicates(pairs: list[tuple[str, Any]]) -> Entry:
    entry = dict(pairs)
    if len(entry) < len(pairs):  # the former value would be lost in silence
        raise _DuplicateKeyError(Counter(key for key, _ in pairs).most_common(1)[0][0])
    return entry
