"""The import graph of the package: who imports whom, and where that goes in a circle.

`python -m tests.support.imports` prints the number of rooms, arrows and circles, and the rooms with what they import.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "medvlp"


def module_name(path: Path, package: Path = PACKAGE) -> str:
    """Return the dotted name of a file; that of its folder for an `__init__.py`."""
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_names(path: Path) -> Iterator[str]:
    """Yield the absolute name of everything that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def import_graph(package: Path = PACKAGE) -> dict[str, set[str]]:
    """Return the modules of the package that each of its modules imports."""
    paths = {module_name(path, package): path for path in package.rglob("*.py")}
    graph: dict[str, set[str]] = {name: set() for name in paths}
    for name, path in paths.items():
        for imported in imported_names(path):
            # What is imported is a module, or something in one.
            target = imported if imported in paths else imported.rpartition(".")[0]
            # Every module may ask for the version.
            if target in paths and target not in (name, package.name):
                graph[name].add(target)
    return graph


def room(name: str) -> str:
    """Return the room of a module: the folder or file at the top of the package that it is in."""
    return name.split(".")[1] if "." in name else "__init__"


def room_graph(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """Return the rooms that each room imports."""
    rooms: dict[str, set[str]] = {room(name): set() for name in graph}
    for name, imported in graph.items():
        rooms[room(name)] |= {room(other) for other in imported} - {room(name)}
    return rooms


def reachable(graph: dict[str, set[str]], start: str) -> dict[str, str]:
    """Return what a module or room reaches, each with that from which it is reached first."""
    came_from: dict[str, str] = {}
    todo = [start]
    while todo:
        current = todo.pop(0)
        for other in sorted(graph[current]):
            if other not in came_from:
                came_from[other] = current
                todo.append(other)
    return came_from


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the sets of modules that import each other, directly or not."""
    reached = {name: set(reachable(graph, name)) for name in graph}
    found = {tuple(sorted(o for o in reached[name] if name in reached[o])) for name in graph if name in reached[name]}
    return sorted(list(circle) for circle in found)


def main() -> None:
    """Print the graph of the package, or of the one in the folder that is named."""
    package = Path(sys.argv[1]) if sys.argv[1:] else PACKAGE
    graph = import_graph(package)
    rooms = room_graph(graph)
    loose = [name for name in rooms if (package / f"{name}.py").exists() and not name.startswith("__")]
    arrows = sum(map(len, rooms.values()))
    print(f"{len(graph)} files, {len(rooms)} rooms, {arrows} arrows between rooms, {len(loose)} loose modules")
    for name, graph_of in (("files", graph), ("rooms", rooms)):
        found = circles(graph_of)
        print(f"{len(found)} circles of {name}", *(" ".join(circle) for circle in found), sep="\n  ")
    for name in sorted(rooms):
        print(f"{name}: {' '.join(sorted(rooms[name]))}")


if __name__ == "__main__":
    main()
