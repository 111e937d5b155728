"""The syntax of a Liberty file: groups, attributes, Boolean functions. What they mean is known elsewhere."""

import re
from dataclasses import dataclass, field

_STATEMENT = re.compile(r'\s*(?:(\})|(\w+)\s*(?::\s*(?:"([^"]*)"|([^;\n]*?))\s*(?:;|\n)|\(([^)]*)\)\s*([;{]?)))')
_TOKEN = re.compile(r"\s*([\w\[\].]+|[!~'&*|+^()])")


@dataclass
class Group:
    """``kind (name) { attributes groups }``. Values of attributes are text; ``index_1 ("1, 2")`` and the like are attributes as well."""

    kind: str
    name: str
    attributes: dict[str, str] = field(default_factory=dict)
    groups: list["Group"] = field(default_factory=list)

    def all(self, kind: str) -> list["Group"]:
        return [group for group in self.groups if group.kind == kind]

    def numbers(self, attribute: str) -> list[float]:
        """What stands in an attribute such as ``values ("1, 2", "3, 4")``, empty where it is absent."""
        return [float(number) for number in re.findall(r"[-+.\deE]+", self.attributes.get(attribute, "")) if number[-1].isdigit() or number[-1] == "."]


def parse(text: str) -> Group:
    """The outermost group. Raises ``ValueError`` with a line number where the text is no Liberty."""
    text = re.sub(r"/\*.*?\*/", lambda comment: "\n" * comment[0].count("\n"), text, flags=re.DOTALL).replace("\\\n", " \n")
    stack, at, end = [Group("", "")], 0, len(text.rstrip())
    while at < end:
        if not (found := _STATEMENT.match(text, at)):
            raise ValueError(f"line {text.count(chr(10), 0, at) + 1} is no Liberty: {text[at:].split(chr(10))[0].strip()!r}")
        at = found.end()
        closing, name, quoted, plain, arguments, mark = found.groups()
        if closing:
            if len(stack) == 1:
                raise ValueError(f"line {text.count(chr(10), 0, at) + 1} closes a group that was not opened")
            stack.pop()
        elif mark == "{":
            stack[-1].groups.append(Group(name, arguments.strip().strip('"').strip()))
            stack.append(stack[-1].groups[-1])
        elif arguments is not None:
            stack[-1].attributes[name] = arguments
        else:
            stack[-1].attributes[name] = quoted if quoted is not None else plain
    if len(stack) > 1 or len(stack[0].groups) != 1:
        raise ValueError("groups are not closed" if len(stack) > 1 else "there is not one library in it")
    return stack[0].groups[0]


def truth_table(function: str, pins: list[str]) -> int:
    """Bit ``i`` is the function's value where bit ``n`` of ``i`` is that of ``pins[n]``. Raises ``ValueError`` for what it cannot read."""
    size = 1 << len(pins)
    ones = (1 << size) - 1
    tokens, at = [*_TOKEN.findall(function), ""], 0

    def variable(name):
        if name in ("0", "1"):
            return ones * int(name)
        if name not in pins:
            raise ValueError(f"function {function!r}: {name!r} is none of {', '.join(pins)}")
        place = pins.index(name)
        return sum(1 << i for i in range(size) if i >> place & 1)

    def take():
        nonlocal at
        at += 1
        return tokens[at - 1]

    def factor():
        token = take()
        if token in ("!", "~"):
            return ones ^ factor()
        if token == "(":
            value = level(0)
            if take() != ")":
                raise ValueError(f"function {function!r}: a bracket is not closed")
        elif re.match(r"\w", token):
            value = variable(token)
        else:
            raise ValueError(f"function {function!r}: {token or 'its end'} is not expected")
        while tokens[at] == "'":
            take()
            value ^= ones
        return value

    # From the loosest to the tightest operator; neighbours without an operator are ANDed.
    operators = (("|+", lambda a, b: a | b), ("&*", lambda a, b: a & b), ("^", lambda a, b: a ^ b))

    def level(depth):
        if depth == len(operators):
            return factor()
        marks, apply = operators[depth]
        value = level(depth + 1)
        while tokens[at] and (tokens[at] in marks or depth == 1 and re.match(r"[\w!~(]", tokens[at])):
            if tokens[at] in marks:
                take()
            value = apply(value, level(depth + 1))
        return value

    value = level(0)
    if tokens[at]:
        raise ValueError(f"function {function!r}: {tokens[at]!r} is not expected")
    return value
