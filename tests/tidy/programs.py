"""Which programs the tests start by name, read from their source, and the one table that says where each comes from."""

import ast
import re

from harness.binary import ROOT

TABLE = ROOT / "tests" / "programs.txt"
# What starts a program, or looks for one, when it is called on one of these modules.
STARTING = {
    "subprocess": {"run", "Popen", "call", "check_call", "check_output", "getoutput"},
    "shutil": {"which"},
    "asyncio": {"create_subprocess_exec"},
    "os": {"execvp", "execvpe", "spawnvp", "system"},
}
OTHER_LANGUAGES = re.compile(r"""(?:Command::new|\bspawn|\bspawnSync|\bexecFile|\bexecFileSync)\(\s*["'`]([\w.+-]+)["'`]""")


def listed():
    """Program → Debian package, `-` where none is asked for."""
    lines = [line.split() for line in TABLE.read_text().splitlines() if line.strip() and not line.startswith("#")]
    assert all(len(line) == 2 for line in lines), f"{TABLE}: a line is a program and its package"
    assert len({line[0] for line in lines}) == len(lines), f"{TABLE}: a program stands there twice"
    return dict(lines)


def words(node, known):
    """The first words that an expression may begin with: a literal, a list's first element, either arm of a choice, a name's value."""
    match node:
        case ast.Constant(value=str(text)):
            return {text.split()[0]} if text.split() else set()
        case ast.List(elts=[first, *_]) | ast.Tuple(elts=[first, *_]):
            return words(first, known)
        case ast.BinOp(left=left, op=ast.Add()):
            return words(left, known)
        case ast.IfExp(body=body, orelse=other):
            return words(body, known) | words(other, known)
        case ast.Name(id=name):
            return {word for value in known.pop(name, []) for word in words(value, known)}
    return set()


def values(tree):
    """Name → what is assigned to it anywhere in the file, or what a loop over a named list gives it."""
    found = {}
    for node in ast.walk(tree):
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                found.setdefault(name, []).append(value)
            case ast.comprehension(target=ast.Name(id=name), iter=ast.Name(id=several)):
                found.setdefault(name, []).extend([("each", several)])
    for name, assigned in found.items():
        flat = []
        for value in assigned:
            if not isinstance(value, tuple):
                flat.append(value)
                continue
            for node in found.get(value[1], []):
                flat.extend(node.elts if isinstance(node, ast.List) else [])
        found[name] = flat
    return found


def is_starting(call):
    match call.func:
        case ast.Attribute(value=ast.Name(id=module), attr=name):
            return name in STARTING.get(module, ())
    return False


def starters(tree):
    """Functions of this file that hand their own arguments on as a command: `def shell(*command)`."""
    found = set()
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef) or not function.args.vararg:
            continue
        given = function.args.vararg.arg
        for call in ast.walk(function):
            if isinstance(call, ast.Call) and is_starting(call) and call.args and is_all(call.args[0], given):
                found.add(function.name)
    return found


def is_all(node, given):
    """Whether a command is the arguments alone, as they are or as text: `command`, `[*command]`, `[str(c) for c in command]`."""
    match node:
        case ast.Name(id=name) | ast.List(elts=[ast.Starred(value=ast.Name(id=name))]):
            return name == given
        case ast.ListComp(generators=[ast.comprehension(iter=ast.Name(id=name))]):
            return name == given
    return False


def started_by_python(text):
    """The programs that a Python file starts by name."""
    tree = ast.parse(text)
    known, own = values(tree), starters(tree)
    found = set()
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call) or not call.args:
            continue
        is_own = isinstance(call.func, ast.Name) and call.func.id in own
        if is_own or is_starting(call):
            found |= words(call.args[0], dict(known))
    return {word for word in found if "/" not in word}


def started(path):
    """The programs that a file starts by name."""
    text = path.read_text()
    if path.suffix in (".rs", ".mjs", ".js", ".ts"):
        return set(OTHER_LANGUAGES.findall(text))
    return started_by_python(text)
