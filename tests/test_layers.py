import ast
from pathlib import Path

import medvlp

PACKAGE = Path(medvlp.__file__).parent
# A module may import from what stands before it in this list, and within its own row.
LAYERS = [
    ["__init__"],
    ["allocator", "errors"],
    ["labels", "parser", "precedence", "prepared", "run_lengths", "trust"],
    ["configs"],
    ["phantom"],
    ["parse"],
    ["prepare"],
    ["screening"],
    ["types"],
    ["distributed"],
    ["detection_loss", "finite", "losses", "metrics", "segmentation_loss", "text_cache"],
    ["protocols"],
    ["data"],
    ["preprocessing"],
    ["models"],
    ["objectives"],
    ["tasks"],
    ["callbacks", "cli", "drawing"],
    ["heatmaps", "model"],
    ["plots"],
    ["neighbours", "predictions", "reading"],
    ["questions"],
    ["bench", "benchmarks", "demo", "localiser", "predict"],
    ["explain", "export"],
    ["app", "search"],
    ["__main__"],
]
# What stands before a module but is none of its business.
STRANGERS = {
    "parse": {"phantom", "parser"},
    "prepare": {"phantom", "parser"},
    "models": {"data", "prepared"},
    "objectives": {"data", "prepared", "protocols", "text_cache"},
    "protocols": {"phantom", "prepare", "prepared"},
    "tasks": {"phantom", "prepare"},
}
# Commands that prepare data must start without these.
HEAVY = {"albumentations", "lightning", "segmentation_models_pytorch", "timm", "torch", "torchvision", "transformers"}
LIGHT = {
    "__init__",
    "__main__",
    "allocator",
    "errors",
    "parse",
    "parser",
    "phantom",
    "prepare",
    "prepared",
    "run_lengths",
}


def imports(path):
    """Absolute names of everything that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield node.module
            if node.module == "medvlp":
                yield from (f"medvlp.{alias.name}" for alias in node.names)


def modules():
    """Top-level module, file and imports of every file of the package."""
    for path in PACKAGE.rglob("*.py"):
        name = path.relative_to(PACKAGE).with_suffix("").parts[0]
        yield name, path, set(imports(path))


def test_every_module_has_a_layer():
    assert {name for name, _, _ in modules()} <= {name for layer in LAYERS for name in layer}


def test_imports_go_one_way():
    level = {name: number for number, layer in enumerate(LAYERS) for name in layer}
    for name, path, imported in modules():
        own = {full.split(".")[1] for full in imported if full.startswith("medvlp.")} & set(level)
        for other in own - {name}:
            # These two import the rest when they are asked to.
            assert level[other] < level[name] or name in ("__init__", "__main__"), f"{path} imports medvlp.{other}"
            assert other not in STRANGERS.get(name, ()), f"{path} imports medvlp.{other}"


def test_data_preparation_is_free_of_torch():
    for name, path, imported in modules():
        if name in LIGHT:
            assert not {full.split(".")[0] for full in imported} & HEAVY, path


def test_one_module_knows_albumentations():
    users = {path.relative_to(PACKAGE).as_posix() for _, path, imported in modules() if "albumentations" in imported}
    assert users <= {"data/transforms.py"}
