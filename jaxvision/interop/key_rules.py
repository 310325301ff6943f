"""Renames the keys of third-party weights by rules that are given as text."""

import re
from collections.abc import Sequence

from jaxvision.core import InputError


class KeyRules:
    """Renames keys: the `key_map` of `load_weights` and `from_state_dict`, made of rules.

    A rule (old, new) replaces `old` by `new` wherever it stands between dots, or between a dot and
    an end of the key. "*" in `old` stands for any characters up to the next dot; the first "*" in
    `new` stands for what the first one in `old` found, and so on. Each rule is applied to what the
    rules before it made of the key. A rule whose `new` is empty ignores the keys in which it finds
    `old`.

    >>> rules = KeyRules([("down*.conv.0", "encoder*_conv1"), ("pos_ids", "")])
    >>> rules("down2.conv.0.weight")
    'encoder2_conv1.weight'

    Args:
      rules: pairs of (old, new).
    Raises:
      InputError: a rule has an empty `old`, or more "*" in `new` than in `old`.
    """

    def __init__(self, rules: Sequence[tuple[str, str]]):
        self._rules = tuple(rules)
        self._unused = set(range(len(self._rules)))
        self._compiled = [_compile(old, new) for old, new in self._rules]

    def __call__(self, key: str) -> str | None:
        """Returns the renamed key, or None for a key that is ignored."""
        for number, (pattern, replacement) in enumerate(self._compiled):
            if not pattern.search(key):
                continue
            self._unused.discard(number)
            if replacement is None:
                return None
            key = pattern.sub(replacement, key)
        return key

    @property
    def unused(self) -> tuple[tuple[str, str], ...]:
        """The rules that have found nothing so far."""
        return tuple(self._rules[number] for number in sorted(self._unused))


def _compile(old: str, new: str) -> tuple[re.Pattern[str], str | None]:
    """Returns the pattern of a rule, and its replacement for `re.sub`."""
    if not old:
        raise InputError(f"the rule ={new} has nothing to replace: give old=new")
    if new.count("*") > old.count("*"):
        raise InputError(f"the rule {old}={new} has more * on the right: give as many on the left")
    body = re.escape(old).replace(r"\*", "([^.]*)")
    pattern = re.compile(rf"(?<![^.]){body}(?![^.])")
    if not new:
        return pattern, None
    first, *rest = new.replace("\\", r"\\").split("*")
    parts = [f"\\g<{number}>{part}" for number, part in enumerate(rest, start=1)]
    return pattern, first + "".join(parts)
