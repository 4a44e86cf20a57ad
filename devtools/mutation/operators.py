"""The mutants of a piece of source: each is one small, plausible fault.

Annotations, decorators, strings and named constants of a module are not mutated. The constants are
decisions, and tests refer to them by name.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

_SWAPS: dict[type[ast.AST], tuple[bytes, bytes]] = {
    ast.Lt: (b"<", b"<="),
    ast.LtE: (b"<=", b"<"),
    ast.Gt: (b">", b">="),
    ast.GtE: (b">=", b">"),
    ast.Eq: (b"==", b"!="),
    ast.NotEq: (b"!=", b"=="),
    ast.Is: (b"is", b"is not"),
    ast.IsNot: (b"is not", b"is"),
    ast.In: (b"in", b"not in"),
    ast.NotIn: (b"not in", b"in"),
    ast.And: (b"and", b"or"),
    ast.Or: (b"or", b"and"),
    ast.Add: (b"+", b"-"),
    ast.Sub: (b"-", b"+"),
    ast.Mult: (b"*", b"//"),
    ast.Div: (b"/", b"*"),
    ast.FloorDiv: (b"//", b"*"),
    ast.Mod: (b"%", b"//"),
    ast.LShift: (b"<<", b">>"),
    ast.RShift: (b">>", b"<<"),
    ast.BitOr: (b"|", b"&"),
    ast.BitAnd: (b"&", b"|"),
}
_OPPOSITES = {"min": "max", "max": "min", "any": "all", "all": "any"}
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_NAMED = (*_FUNCTIONS, ast.ClassDef)
# Fields whose expression is used as a condition.
_CONDITIONS = {"test", "guard", "ifs"}
_Placed = ast.stmt | ast.expr
_NEVER = {"annotation", "returns", "decorator_list", "bases"}


@dataclass(frozen=True, slots=True)
class Mutant:
    """Source whose bytes from ``start`` to ``end`` are ``instead``.

    ``function`` is the qualified name of the outermost function around it, or "".
    """

    start: int
    end: int
    instead: bytes
    function: str

    def of(self, source: bytes) -> bytes:
        return source[: self.start] + self.instead + source[self.end :]


def mutants(source: bytes) -> list[Mutant]:
    """Return every mutant of Python source, ordered by start."""
    found = set(_Finder(source).of(ast.parse(source)))
    return sorted(found, key=lambda mutant: (mutant.start, mutant.end, mutant.instead))


class _Finder:
    def __init__(self, source: bytes) -> None:
        self._source = source
        self._lines = [0]
        for line in source.splitlines(keepends=True):
            self._lines.append(self._lines[-1] + len(line))
        self._function: ast.AST | None = None  # the outermost one
        self._name = ""  # of the class or the function

    def of(self, node: ast.AST) -> Iterator[Mutant]:
        """Yield the mutants of a node and of its descendants."""
        if isinstance(node, ast.JoinedStr):  # the positions within it are unreliable
            return
        if isinstance(node, _Placed):
            yield from self._mutants_of(node)
        for name, value in ast.iter_fields(node):
            if name in _NEVER:
                continue
            before = self._function, self._name
            if name == "body" and self._function is None and isinstance(node, _NAMED):
                self._name = f"{self._name}.{node.name}".lstrip(".")
                self._function = node if isinstance(node, _FUNCTIONS) else None
            for child in value if isinstance(value, list) else [value]:
                if not isinstance(child, ast.AST):
                    continue
                if name in _CONDITIONS and isinstance(child, ast.expr) and not _has_opposite(child):
                    yield self._change(child, b"not (%s)" % self._text(child))
                yield from self.of(child)
            self._function, self._name = before

    def _mutants_of(self, node: _Placed) -> Iterator[Mutant]:
        match node:
            case ast.Compare():
                sides = [node.left, *node.comparators]
                for op, left, right in zip(node.ops, sides, sides[1:], strict=False):
                    yield self._swap(op, left, right)
            case ast.BinOp():
                if type(node.op) in _SWAPS and self._function is not None:
                    yield self._swap(node.op, node.left, node.right)
            case ast.BoolOp():
                yield from self._mutants_of_all(node)
            case ast.UnaryOp(op=ast.Not()):
                yield self._mutant(self._start(node), self._start(node) + len(b"not "), b"")
            case ast.Constant(value=bool(value)):
                yield self._change(node, str(not value).encode())
            case ast.Constant(value=int(value) | float(value)):
                if self._function is not None:
                    yield self._change(node, str(value + 1).encode())
                    yield self._change(node, str(value - 1).encode())
            case ast.Call(func=ast.Name(id=name)) if name in _OPPOSITES:
                yield self._change(node.func, _OPPOSITES[name].encode())
            case ast.Subscript(slice=ast.Slice()):
                yield self._mutant(self._end(node.value), self._end(node), b"")
            case ast.Return(value=value) if value is not None:
                if not (isinstance(value, ast.Constant) and not value.value):
                    yield self._change(value, b"None")
            case ast.AugAssign() if type(node.op) in _SWAPS:
                yield self._swap(node.op, node.target, node.value)
                yield self._change(node, b"pass")
            case ast.Break():
                yield self._change(node, b"continue")
            case ast.Continue():
                yield self._change(node, b"break")
            case ast.Expr(value=ast.Call()) | ast.Raise() | ast.Delete() | ast.Return():
                yield self._change(node, b"pass")
            case ast.Assign():
                if _changes_something(node, self._function):
                    yield self._change(node, b"pass")

    def _mutants_of_all(self, node: ast.BoolOp) -> Iterator[Mutant]:
        """Swap ``and`` and ``or``, and yield the expression without each of its parts."""
        changed, at = b"", self._start(node)
        for left, right in zip(node.values, node.values[1:], strict=False):
            swap = self._swap(node.op, left, right)
            changed += self._source[at : swap.start] + swap.instead
            at = swap.end
        yield self._mutant(self._start(node), at, changed)
        for value in node.values:
            if not isinstance(value, ast.Constant):
                yield self._change(value, str(isinstance(node.op, ast.And)).encode())

    def _swap(self, op: ast.AST, left: ast.expr, right: ast.expr) -> Mutant:
        """Change the operator, which lies between two operands."""
        old, new = _SWAPS[type(op)]
        start = self._source.index(old, self._end(left), self._start(right))
        return self._mutant(start, start + len(old), new)

    def _change(self, node: _Placed, instead: bytes) -> Mutant:
        return self._mutant(self._start(node), self._end(node), instead)

    def _mutant(self, start: int, end: int, instead: bytes) -> Mutant:
        return Mutant(start, end, instead, self._name if self._function is not None else "")

    def _text(self, node: _Placed) -> bytes:
        return self._source[self._start(node) : self._end(node)]

    def _start(self, node: _Placed) -> int:
        return self._lines[node.lineno - 1] + node.col_offset

    def _end(self, node: _Placed) -> int:
        return self._lines[(node.end_lineno or 1) - 1] + (node.end_col_offset or 0)


def _has_opposite(condition: ast.expr) -> bool:
    """Return True if one of the condition's own mutants is its opposite."""
    match condition:
        case ast.Compare(ops=[ast.Eq() | ast.NotEq() | ast.Is() | ast.IsNot()]):
            return True
        case ast.Compare(ops=[ast.In() | ast.NotIn()]) | ast.UnaryOp(op=ast.Not()):
            return True
    return False


def _changes_something(node: ast.Assign, function: ast.AST | None) -> bool:
    """Return True if there was a value before, with which the code can continue."""
    if function is None or getattr(function, "name", "") == "__init__":
        return False
    targets = [part for target in node.targets for part in ast.walk(target)]
    known = [arg.arg for arg in ast.walk(function) if isinstance(arg, ast.arg)]
    known += [
        name.id
        for name in ast.walk(function)
        if isinstance(name, ast.Name)
        and isinstance(name.ctx, ast.Store)
        and (name.lineno, name.col_offset) < (node.lineno, node.col_offset)
    ]
    return any(
        isinstance(part, (ast.Attribute, ast.Subscript))
        or (isinstance(part, ast.Name) and part.id in known)
        for part in targets
    )
