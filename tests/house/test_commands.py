"""Every command explains itself, shows an example, and is in the README; help comes before torch."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from analyses.__main__ import run
from analyses.cli import app

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
GROUP = typer.main.get_command(app)
COMMANDS = sorted(GROUP.commands)


def flags(command):
    parameters = GROUP.commands[command].params
    return {flag for one in parameters for flag in (*one.opts, *one.secondary_opts)}


def example(command):
    return GROUP.commands[command].epilog.removeprefix("Example:").strip()


def test_the_commands_are_those_of_the_house():
    assert {"pretrain", "train", "transfer", "diff", "demo", "redraw"} <= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_says_what_it_does_and_ends_with_an_example(command, capsys):
    assert run([command, "--help"]) == 0
    text = " ".join(re.sub(r"[│╭╮╰╯─]", " ", capsys.readouterr().out).split())
    assert GROUP.commands[command].help.splitlines()[0] in text
    assert text.endswith(" ".join(example(command).split()))


@pytest.mark.parametrize("command", COMMANDS)
def test_the_example_uses_options_that_there_are_and_all_that_must_be(command):
    program, name, *words = shlex.split(example(command))
    assert (program, name) == ("repgeo", command)
    used = {word.split("=")[0] for word in words if word.startswith("--")}
    assert used <= flags(command)
    required = {
        p.opts[0] for p in GROUP.commands[command].params if p.required and p.opts[0].startswith("--")
    }
    assert required <= used


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_has_a_help(command):
    assert all(getattr(parameter, "help", None) for parameter in GROUP.commands[command].params)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_readme_names_every_command(command):
    assert f"repgeo {command}" in README.read_text(encoding="utf-8")


@pytest.mark.parametrize("arguments", ["--help", "diff --help", "--version", "dif", "diff --layers 0"])
def test_help_and_wrong_words_are_answered_without_loading_torch(arguments):
    code = (
        "import sys; from analyses.__main__ import run; run(sys.argv[1:]);"
        "heavy = {'torch', 'transformers', 'peft', 'matplotlib', 'numpy', 'scipy'};"
        "print(*(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments.split()], capture_output=True, text=True, check=True
    )
    assert done.stderr.splitlines()[-1] == ""


@pytest.mark.parametrize(
    "program", [["-m", "analyses"], ["-c", "from analyses.__main__ import main; main()"]]
)
def test_both_doors_lead_to_the_same_commands(program):
    done = subprocess.run([sys.executable, *program, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("repgeo ")
