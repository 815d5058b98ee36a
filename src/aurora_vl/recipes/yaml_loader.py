"""How YAML is read in recipes and in settings of the command line."""

from __future__ import annotations

import re
from typing import Any

import yaml

TOO_LONG = "a number of thousands of digits; give a smaller one"
"""What a ValueError of the loader is about, which Python raises for such a number."""


class RepeatedKeyError(yaml.YAMLError):
    """Tells of a key that a mapping writes twice."""


class RecipeLoader(yaml.SafeLoader):
    """YAML 1.2's plain scalars: `off` and 2026-01-31 are words, 1e-3 is a number.

    A mapping that writes a key twice is refused: PyYAML would keep the last and drop the others.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012 (PyYAML's form)
        first: [pair for pair in resolvers if pair[0].endswith((":null", ":merge"))]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """PyYAML's, checked before merging (`<<`) adds keys that may stand beside it too."""
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    line = key.start_mark.line + 1
                    raise RepeatedKeyError(f"the key {key.value!r} a second time in line {line}")
                seen.add(key.value)
        return node


for _kind, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(0|[1-9]\d*)", "-+0123456789"),
    (
        "float",
        r"[-+]?(\d*\.\d+|\d+\.|\d+(?=[eE]))([eE][-+]?\d+)?|[-+]?\.(inf|nan)",
        "-+.0123456789",
    ),
):
    RecipeLoader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_kind}", re.compile(rf"(?:{_pattern})$"), list(_first)
    )
