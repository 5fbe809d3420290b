"""`init`: from an unknown file to a profile under which it can be planned."""

import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from telemetron_batch.cli.commands import main
from telemetron_batch.config.config import resolve
from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.errors import ConfigError, InputError
from telemetron_batch.domain.model import InputOptions
from telemetron_batch.init import interview as spoken
from telemetron_batch.init.init_profile import InitRequest, Prompter, default_profile, make_profile, profile_keys
from tests.input.test_workbook import save

TEXT = """Rückläufer;;;;
Pos;Kontakt;Seriennr. "Gerät";Art
1;a@b.de;AB-00012;Zugang
2;c@b.de;AB-00013;Abgang
3;a@b.de;AB-00014;Zugang
4;a@b.de;AB-00015;Return
""".replace('"Gerät"', '""Gerät""').replace('Seriennr. ""Gerät""', '"Seriennr. ""Gerät"""')
SERIAL = 'Seriennr. "Gerät"'
SAID = ["--action-word", "Zugang=assign", "--action-word", "Abgang=unassign"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "desk.csv").write_text(TEXT)
    return tmp_path


def call(*arguments: str, answers: str = "", **environment: str) -> Result:
    return CliRunner().invoke(main, [*arguments], input=answers, env=environment)


def profiles() -> dict[str, object]:
    return tomllib.loads(Path("telemetron-batch.toml").read_text())


def test_the_profile_that_init_writes_makes_plan_work() -> None:
    made = call("init", "desk.csv", *SAID)
    assert made.exit_code == 0
    assert made.stdout.splitlines() == [
        "Profile desk is in telemetron-batch.toml: 4 rows read, 0 of them invalid.",
        "Next: telemetron-batch plan desk.csv --profile desk",
    ]
    assert call("plan", "desk.csv").exit_code == 2
    planned = call("plan", "desk.csv", "--profile", "desk", "--json")
    assert planned.exit_code == 0
    assert '"invalid": 0' in planned.stdout


def test_without_a_terminal_the_proposal_is_accepted_and_reported() -> None:
    made = call("init", "desk.csv")
    assert made.exit_code == 0
    assert f'taken from "{SERIAL}"' in made.stderr
    assert '2 rows say "zugang", which stays unknown' in made.stderr
    assert '1 row says "return": unassign' in made.stderr
    columns = {"customerEmail": "Kontakt", "deviceIdentifier": SERIAL, "action": "Art"}
    assert profiles() == {"desk": {"column": columns}}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("x,Email,Action\nred,a@b.cc,add\nred,a@b.cc,add\nblue,a@b.cc,add\n", "deviceIdentifier (the device's serial"),
        (
            "x,Serial,Action\nred,S-123,add\nblue,S-124,add\n",
            "no column for customerEmail (the customer's email address) is found",
        ),
        ("Email,Serial,x\na@b.cc,S-123,red\na@b.cc,S-124,blue\n", "--action assign or --action unassign"),
        ("Email,Serial,Action\na@b.cc,S-123,red\na@b.cc,S-124,blue\n", 'no action word is known; found "red" (1 rows)'),
        ("Email,a,b,Action\na@b.cc,S-123,T-321,add\na@b.cc,S-124,T-421,add\n", 'it may be "a", "b"'),
        ("Email,Email,Serial,Action\na@b.cc,a@b.cc,S-123,add\n", "customerEmail"),
        ("", "no header with rows below it"),
    ],
)
def test_an_unclear_file_is_refused_and_nothing_is_written(content: str, words: str) -> None:
    Path("x.csv").write_text(content)
    refused = call("init", "x.csv")
    assert refused.exit_code == 2
    assert words in refused.stderr
    assert "Traceback" not in refused.output
    assert not Path("telemetron-batch.toml").exists()


def test_an_existing_profile_is_refused_before_any_question_without_force() -> None:
    Path("telemetron-batch.toml").write_text("# mine\nrate = '1/s'\n[desk]\nrate = '2/s'\n")
    refused = call("init", "desk.csv", *SAID)
    assert refused.exit_code == 2
    assert "there is a profile 'desk' already" in refused.stderr
    assert "taken from" not in refused.stderr
    assert call("init", "desk.csv", *SAID, "--force").exit_code == 0
    assert Path("telemetron-batch.toml").read_text().startswith("# mine\nrate = '1/s'\n")
    assert "rate" not in profiles()["desk"]  # type: ignore[operator]
    assert call("init", "desk.csv", *SAID, "--profile", "other").exit_code == 0
    assert set(profiles()) == {"rate", "desk", "other"}


def test_requested_options_go_into_the_profile() -> None:
    Path("x.csv").write_text("Email;Serial\na@b.cc;S-1\nTotal;1\n", encoding="utf-16")
    said = ["--action", "unassign", "--delimiter", ";", "--encoding", "utf-16", "--trailer-count", "Total;([0-9]+)"]
    made = call("init", "x.csv", *said, "--config", "my files.toml", "--profile", "ä b", "--multiline-cells")
    assert made.exit_code == 0
    assert made.stdout.endswith("plan x.csv --profile 'ä b' --config 'my files.toml'\n")
    config = resolve(["x.csv"], {"profile": "ä b", "config": "my files.toml"}, {})
    assert config.input == InputOptions(
        columns={"customerEmail": "Email", "deviceIdentifier": "Serial"},
        action=Action.UNASSIGN,
        delimiter=";",
        encoding="utf-16",
        trailer_count="Total;([0-9]+)",
        multiline_cells=True,
    )
    assert call("plan", "x.csv", "--profile", "ä b", "--config", "my files.toml").exit_code == 0


def test_a_profile_chosen_in_the_environment_is_not_read() -> None:
    environ = {"TELEMETRON_PROFILE": "nowhere", "TELEMETRON_CONFIG": "mine.toml"}
    assert call("init", "desk.csv", *SAID, **environ).exit_code == 0
    assert "[desk]" in Path("mine.toml").read_text()


@pytest.mark.parametrize(("profile", "words"), [("column", "is an option's name"), ("profile", "already")])
def test_a_name_that_a_profile_cannot_have_is_refused(profile: str, words: str) -> None:
    refused = call("init", "desk.csv", *SAID, "--profile", profile)
    assert (refused.exit_code, words in refused.stderr) == (2, True)


def test_a_requested_column_is_not_asked_for() -> None:
    made = call("init", "desk.csv", *SAID, "--column", "deviceIdentifier=Pos")
    assert "deviceIdentifier" not in made.stderr
    assert profiles()["desk"]["column"]["deviceIdentifier"] == "Pos"  # type: ignore[index]


def test_standard_input_is_refused() -> None:
    assert "name a file" in call("init", "-").stderr


def test_a_file_of_profiles_that_is_not_toml_is_refused_and_left_alone() -> None:
    Path("telemetron-batch.toml").write_text("[")
    assert call("init", "desk.csv").exit_code == 2
    assert Path("telemetron-batch.toml").read_text() == "["


@pytest.mark.parametrize(
    ("file", "name"), [("/a/erp.csv", "erp"), ("erp.csv.gz", "erp"), ("erp", "erp"), ("a.b.txt", "a.b")]
)
def test_the_profile_is_named_after_the_file(file: str, name: str) -> None:
    assert default_profile(file) == name


def test_an_option_that_is_not_set_gives_no_key() -> None:
    assert profile_keys(InputOptions()) == {}


def test_a_word_that_no_option_can_name_is_reported() -> None:
    Path("x.csv").write_text("Email,Serial,Action\na@b.cc,S-1,a=b\na@b.cc,S-2,add\n")
    assert 'says "a=b", which no option can name' in call("init", "x.csv").stderr


# On a terminal


class Answers(Prompter):
    """Gives prepared answers."""

    def __init__(self, *answers: object) -> None:
        self.answers = [*answers]
        self.asked: list[str] = []

    def column(self, field: str, means: str, proposed: str | None, headers: Sequence[str]) -> str | None:  # noqa: ARG002
        self.asked.append(f"{field}: {proposed}")
        return self.answers.pop(0)  # type: ignore[return-value]

    def action(self) -> Action | None:
        self.asked.append("action for all")
        return self.answers.pop(0)  # type: ignore[return-value]

    def word(self, word: str, rows: int) -> Action | None:
        self.asked.append(f"{word}: {rows}")
        return self.answers.pop(0)  # type: ignore[return-value]


def wanted() -> InitRequest:
    return InitRequest("desk.csv", InputOptions(), "p", Path("p.toml"), force=False)


def test_each_column_and_each_unknown_word_is_asked_for_once() -> None:
    answers = Answers("Kontakt", SERIAL, "Art", Action.ASSIGN, None)
    made = make_profile(wanted(), answers)
    assert answers.asked == [
        "customerEmail: Kontakt",
        f"deviceIdentifier: {SERIAL}",
        "action: Art",
        "zugang: 2",
        "abgang: 1",
    ]
    assert (made.rows, made.invalid) == (4, 1)
    assert tomllib.loads(Path("p.toml").read_text())["p"]["action-word"] == {"zugang": "assign"}


def test_without_an_action_column_one_action_is_asked_for() -> None:
    answers = Answers("Kontakt", SERIAL, None, Action.UNASSIGN)
    assert make_profile(wanted(), answers).invalid == 0
    assert tomllib.loads(Path("p.toml").read_text())["p"]["action"] == "unassign"


def test_a_missing_required_column_is_refused() -> None:
    with pytest.raises(InputError, match=r"no column for customerEmail .* is found"):
        make_profile(wanted(), Answers(None))
    Path("desk.csv").write_text(TEXT.replace("Return", "Zugang"))
    with pytest.raises(ConfigError, match="no action word is known"):
        make_profile(wanted(), Answers("Kontakt", SERIAL, "Art", None, None))


def test_the_terminal_takes_a_header_a_number_or_enter(monkeypatch: pytest.MonkeyPatch) -> None:
    class OnTerminal(spoken.TerminalPrompter):
        pass

    monkeypatch.setattr(spoken, "NonInteractivePrompter", OnTerminal)  # under the runner there is no terminal
    answers = f"9\n2\n{SERIAL}\n\nassign\nnone\n"
    made = call("init", "desk.csv", answers=answers)
    assert made.exit_code == 0
    assert "name a header, or its number from 1 to 4" in made.stderr
    columns = {"customerEmail": "Kontakt", "deviceIdentifier": SERIAL, "action": "Art"}
    assert profiles() == {"desk": {"column": columns, "action-word": {"zugang": "assign"}}}
    assert call("init", "desk.csv", "--force", answers="\n\nnone\nunassign\n").exit_code == 0
    assert profiles()["desk"]["action"] == "unassign"  # type: ignore[index]


@pytest.mark.parametrize("word", ["unassign", "Return", "remove"])
def test_an_action_is_an_answer_to_the_question_for_the_action_column(
    monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    class OnTerminal(spoken.TerminalPrompter):
        pass

    monkeypatch.setattr(spoken, "NonInteractivePrompter", OnTerminal)
    made = call("init", "desk.csv", answers=f"\n\n{word}\n")
    assert made.exit_code == 0
    assert "What is to be done with every row?" not in made.stderr
    assert profiles()["desk"]["action"] == "unassign"  # type: ignore[index]


def test_a_sheet_is_written_only_if_it_was_requested(tmp_path: Path) -> None:
    sheet = [["Kontakt", "Gerät", "action"], *([f"a{at}@b.cc", f"SN-{at}", "assign"] for at in range(9))]
    save(tmp_path / "desk.xlsx", {"Notes": [["x", "y"], ["1", "2"]], "Retouren KW47": sheet})
    make_profile(replace(wanted(), file=str(tmp_path / "desk.xlsx"), profile="any"), Prompter())
    asked = InputOptions(sheet="Retouren KW47")
    make_profile(replace(wanted(), file=str(tmp_path / "desk.xlsx"), profile="named", input=asked), Prompter())
    written = tomllib.loads(Path("p.toml").read_text())
    assert {name: told.get("sheet") for name, told in written.items()} == {"any": None, "named": "Retouren KW47"}


@pytest.mark.parametrize("owners", ["runs", "./owners.csv"])
def test_a_list_of_serials_alone_gets_a_profile_that_looks_up_owners(owners: str) -> None:
    Path("scan.csv").write_text("Nr;Geraet\n1;S-123\n2;S-124\n")
    Path("owners.csv").write_text("Email,Serial\na@b.cc,S-123\n")
    made = call("init", "scan.csv", "--owners", owners, "--action", "unassign", "--column", "deviceIdentifier=Geraet")
    assert made.exit_code == 0
    assert profiles()["scan"] == {"column": {"deviceIdentifier": "Geraet"}, "action": "unassign", "owners": owners}
    planned = call("plan", "scan.csv", "--profile", "scan", "--json")
    assert f'"ownersFound": {0 if owners == "runs" else 1}' in planned.stdout
