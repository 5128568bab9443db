import pytest

from tests.support.imports import (
    PACKAGE,
    circles,
    import_graph,
    imported_names,
    module_name,
    reachable,
    room,
    room_graph,
)

# The rooms of the package, the folders and files at its top. A room imports from those in earlier rows alone.
LAYERS = [
    ["errors", "run_lengths"],
    ["storage"],
    ["types", "distributed", "prepared", "tables"],
    ["config", "phantom", "parse"],
    ["prepare", "losses", "metrics"],
    ["models", "protocols", "data"],
    ["objectives"],
    ["tasks"],
    ["inference", "localiser"],
    ["trainer"],
    ["app", "benchmarks"],
    ["compare", "demo", "export"],
    ["__main__"],
]
# What a room must not reach, be it through others.
STRANGERS = {
    "parse": {"phantom", "config"},
    "prepare": {"phantom", "config"},
    "losses": {"types"},
    "models": {"data", "prepared", "protocols"},
    "protocols": {"phantom", "prepare", "prepared"},
    "data": {"prepare", "models", "protocols"},
    "objectives": {"data", "prepared", "protocols"},
    "tasks": {"phantom", "prepare"},
    "inference": {"phantom", "trainer"},
}
# Commands that prepare data must start without these, and so must whatever they reach.
HEAVY = {"albumentations", "lightning", "segmentation_models_pytorch", "timm", "torch", "torchvision", "transformers"}
LIGHT = ["errors", "parse", "phantom", "prepare", "prepared", "run_lengths", "storage", "tables"]

GRAPH = import_graph()
ROOMS = room_graph(GRAPH)
FILES = {module_name(path): path for path in PACKAGE.rglob("*.py")}
TABLE = "LAYERS in tests/test_layers.py"


def way(graph, start, end):
    """Return the shortest way from a module to another, as text."""
    came_from, steps = reachable(graph, start), [end]
    while steps[-1] != start:
        steps.append(came_from[steps[-1]])
    return " imports ".join(reversed(steps))


def test_every_room_has_a_layer():
    entered = {name for layer in LAYERS for name in layer}
    for name in sorted(ROOMS.keys() - entered - {"__init__"}):
        below = max((i for i, layer in enumerate(LAYERS) if set(layer) & ROOMS[name]), default=-1)
        pytest.fail(
            f"medvlp/{name} is new: enter it in {TABLE}, in row {below + 2} or later, for it imports "
            f"{', '.join(sorted(ROOMS[name])) or 'nothing'}. Better: put it into a room that is there."
        )
    assert not entered - ROOMS.keys(), f"{TABLE}: these are not there any more"


def test_imports_go_one_way():
    level = {name: number for number, layer in enumerate(LAYERS) for name in layer}
    for name, imported in GRAPH.items():
        for other in imported if name != "medvlp" else ():
            up, down = room(name), room(other)
            assert up == down or level[down] < level[up], (
                f"{name} imports {other}, but {down} stands in row {level[down] + 1} of {TABLE}, and {up} in row "
                f"{level[up] + 1}: a room imports from earlier rows alone"
            )


def test_there_is_no_circle():
    assert circles(GRAPH) == circles(ROOMS) == []


@pytest.mark.parametrize("name", STRANGERS)
def test_a_room_does_not_reach_what_is_none_of_its_business(name):
    for module in (module for module in GRAPH if room(module) == name):
        for other in reachable(GRAPH, module):
            assert room(other) not in STRANGERS[name], way(GRAPH, module, other)


@pytest.mark.slow
@pytest.mark.parametrize("name", LIGHT)
def test_data_preparation_is_free_of_torch(name):
    for module in (module for module in GRAPH if room(module) == name):
        for other in [module, *reachable(GRAPH, module)]:
            heavy = {full.split(".")[0] for full in imported_names(FILES[other])} & HEAVY
            assert not heavy, f"{way(GRAPH, module, other)} imports {', '.join(heavy)}"


def test_few_modules_are_loose():
    loose = {path.stem for path in PACKAGE.glob("*.py")}
    assert loose == {"__init__", "__main__", "distributed", "errors", "prepared", "run_lengths", "types"}


def test_every_package_says_what_may_be_in_it():
    for path in PACKAGE.rglob("__init__.py"):
        summary = path.read_text().partition('"""')[2].partition('"""')[0]
        assert path.parent == PACKAGE or len(summary.strip().splitlines()) >= 3, path


def test_no_function_hides_a_module():
    for package, path in FILES.items():
        for full in imported_names(path) if path.name == "__init__.py" else ():
            hidden = f"{package}.{full.rpartition('.')[2]}"
            assert full in FILES or hidden not in FILES, f"{package} imports {full}, which hides the module {hidden}"


@pytest.mark.slow
def test_one_module_knows_albumentations():
    users = {name for name, path in FILES.items() for full in imported_names(path) if full.startswith("albumentations")}
    assert users <= {"medvlp.data.transforms"}
