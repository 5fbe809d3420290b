"""What wanted attention is fed back with the mapping of its run, and what a run did is taken back by its name."""

import re
import shutil
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from telemetron_batch.config.config import RunConfig
from telemetron_batch.domain.errors import BatchError, ConfigError, InputError, JournalError
from telemetron_batch.run import pipeline
from telemetron_batch.run.feed_back import attention_config
from telemetron_batch.run.undo import configure_undo
from telemetron_batch.sharding.shard_plan import plan_shards
from tests.cli.test_commands import call
from tests.conftest import ENVIRON, KEY, Desk, Ran
from tests.support.scripted import BASE_URL, Says

A, B = "a@x.com", "b@x.com"
LIST = "Kunde;Nr\na@x.com;SN-1\nniemand;SN-2\nb@x.com;SN-3\n"
COLUMNS = ["customerEmail=Kunde", "deviceIdentifier=Nr"]


def configured(desk: Desk, *files: Path, environ: dict[str, str] | None = None, **flags: Any) -> RunConfig:
    told = {"base_url": BASE_URL, "reports_dir": str(desk.folder / "reports"), "run_id": "fed", **flags}
    return attention_config([str(file) for file in files], told, {"TELEMETRON_API_KEY": KEY, **(environ or {})})


def feed(desk: Desk, *files: Path, **flags: Any) -> Ran:
    summary = pipeline.run(configured(desk, *files, **flags), transport=desk.server, clock=desk.clock)
    return Ran(summary, summary.folder, desk.server)


def returns(desk: Desk, **flags: Any) -> Ran:
    desk.server.fleet.assign(A, ["SN-1", "SN-2"])
    desk.server.fleet.assign(B, ["SN-3"])
    return desk.run(LIST, action="unassign", column=COLUMNS, **flags)


def corrected(path: Path, *changes: tuple[str, str]) -> Path:
    """The file as a person leaves it."""
    if path.suffix == ".xlsx":
        opened = openpyxl.load_workbook(path)
        for cell in (cell for cells in opened.worksheets[0].iter_rows() for cell in cells):
            cell.value = dict(changes).get(str(cell.value), cell.value)
        opened.save(path)
        return path
    text = path.read_text(encoding="utf-8-sig")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8-sig")
    return path


@pytest.mark.parametrize("name", ["attention.csv", "attention.xlsx"])
def test_a_corrected_file_needs_no_word_on_columns_or_actions(desk: Desk, name: str) -> None:
    ran = returns(desk, xlsx=True)
    fed = feed(desk, corrected(ran.folder / name, ("niemand", A)))
    assert [(row["customerEmail"], row["action"], row["outcome"]) for row in fed.rows] == [
        (A, "unassign", "unassigned")
    ]


def test_so_it_is_in_the_next_round(desk: Desk) -> None:
    ran = returns(desk)
    again = feed(desk, corrected(ran.folder / "attention.csv", ("niemand", "nobody")))
    assert again.outcomes == ["invalid"]
    last = feed(desk, corrected(again.folder / "attention.csv", ("nobody", A)), run_id="last")
    assert [(row["action"], row["outcome"]) for row in last.rows] == [("unassign", "unassigned")]


def test_the_same_command_goes_on_with_what_was_fed_back(desk: Desk) -> None:
    ran = returns(desk)
    path = corrected(ran.folder / "attention.csv", ("niemand", A))
    desk.server.script = lambda _: Says(401, {"error": "Unauthorized"})
    assert feed(desk, path).summary.exit_code == 4
    desk.server.script = lambda _: None
    assert feed(desk, path).outcomes == ["unassigned"]


def test_action_words_and_types_and_what_creates_devices_are_taken_too(desk: Desk) -> None:
    text = "Mail;Nr;Was;Art\na@x.com;UNKNOWN-1;Zu;T1\nniemand;UNKNOWN-2;Zu;T2\n"
    column = ["customerEmail=Mail", "deviceIdentifier=Nr", "action=Was", "deviceType=Art"]
    ran = desk.run(text, column=column, action_word=["Zu=assign", "Ab=unassign"], auto_create_devices=True)
    fed = feed(desk, corrected(ran.folder / "attention.csv", ("niemand", A)))
    assert fed.outcomes == ["assigned"]
    assert ran.json["options"]["action_word"] == fed.json["options"]["action_word"]


def test_cells_are_split_as_in_the_run(desk: Desk) -> None:
    ran = desk.run("Kunde;Nr\nniemand;SN-1, SN-2\n", action="assign", column=COLUMNS, split="deviceIdentifier")
    fed = feed(desk, corrected(ran.folder / "attention.csv", ("niemand", A), ("SN-2", "SN-2, SN-3")))
    assert [row["deviceIdentifier"] for row in fed.rows] == ["SN-1", "SN-2", "SN-3"]
    assert set(fed.outcomes) == {"assigned"}


def test_no_empty_cell_takes_the_value_of_the_row_above_which_is_another_one_by_now(desk: Desk) -> None:
    text = "Kunde;Nr\na@x.com;UNKNOWN-1\nb@x.com;SN-2\n;UNKNOWN-3\n"
    ran = desk.run(text, action="assign", column=COLUMNS, fill_down=["customerEmail"])
    fed = feed(desk, corrected(ran.folder / "attention.csv", ("UNKNOWN", "SN")))
    assert [(row["customerEmail"], row["deviceIdentifier"]) for row in fed.rows] == [(A, "SN-1"), (B, "SN-3")]
    emptied = corrected(ran.folder / "attention.csv", (B, ""))
    blank = feed(desk, emptied, run_id="blank", fill_down=["customerEmail"])
    assert blank.outcomes == ["alreadyAssigned", "invalid"]


def test_a_spreadsheet_in_germany_saves_it_in_the_encoding_of_the_list(desk: Desk) -> None:
    path = desk.folder / "liste.csv"
    path.write_bytes("Kunde;Nr\nä@x.com;UNKNOWN-1\n".encode("cp1252"))
    ran = desk.run(str(path), action="assign", column=COLUMNS, encoding="cp1252")
    text = (ran.folder / "attention.csv").read_text(encoding="utf-8-sig")
    (ran.folder / "attention.csv").write_bytes(text.replace("UNKNOWN", "SN").replace('"', "").encode("cp1252"))
    assert [(row["customerEmail"], row["outcome"]) for row in feed(desk, ran.folder / "attention.csv").rows] == [
        ("ä@x.com", "assigned")
    ]


def test_flags_win_over_the_run(desk: Desk) -> None:
    ran = returns(desk)
    path = corrected(ran.folder / "attention.csv", ("niemand", A), ("Kunde", "Wer"))
    fed = feed(desk, path, column=["customerEmail=Wer"], action="assign")
    assert [(row["customerEmail"], row["action"]) for row in fed.rows] == [(A, "assign")]


def test_the_run_wins_over_an_environment_made_for_other_files(desk: Desk) -> None:
    ran = returns(desk)
    config = configured(desk, ran.folder / "attention.csv", environ={"TELEMETRON_ACTION": "assign"})
    assert config.input.action == "unassign"


def test_a_profile_that_is_named_wins_over_the_run(desk: Desk) -> None:
    ran = returns(desk)
    (desk.folder / "p.toml").write_text('[other]\naction = "assign"\n')
    profile = {"profile": "other", "config": str(desk.folder / "p.toml")}
    config = configured(desk, ran.folder / "attention.csv", **profile)
    assert (config.input.action, dict(config.input.columns)["deviceIdentifier"]) == ("assign", "Nr")


def test_runs_that_were_started_otherwise_are_not_fed_back_together(desk: Desk) -> None:
    one = returns(desk)
    other = desk.run(LIST, action="assign", column=COLUMNS, run_id="r2", again=True)
    with pytest.raises(
        ConfigError, match=r"run r1 and run r2 .* other options .*run the attention file of each by itself"
    ):
        configured(desk, one.folder / "attention.csv", other.folder / "attention.csv")


@pytest.mark.parametrize("name", ["reconciliation.csv", "list.csv", "undo.csv"])
def test_no_other_file_in_the_folder_of_a_run_takes_its_mapping(desk: Desk, name: str) -> None:
    ran = returns(desk)
    (ran.folder / "list.csv").write_text(LIST)
    assert configured(desk, ran.folder / name).options_from_run is None


def test_a_run_that_is_not_ours_tells_nothing(desk: Desk) -> None:
    ran = returns(desk)
    (ran.folder / "journal.sqlite3").chmod(0o666)
    assert configured(desk, ran.folder / "attention.csv").options_from_run is None


@pytest.mark.parametrize("name", ["attention.csv", "attention.xlsx"])
def test_a_file_that_was_moved_is_told_where_its_options_are_known(desk: Desk, name: str) -> None:
    ran = returns(desk, xlsx=True)
    moved = desk.folder / f"mine{Path(name).suffix}"
    shutil.copy(ran.folder / name, moved)
    advice = (
        "it holds rows of a run: run it in the folder of that run, whose options are taken then; or say which column"
    )
    with pytest.raises(InputError, match=advice):
        feed(desk, moved)
    assert feed(desk, moved, action="unassign", column=COLUMNS).outcomes == ["invalid"]


def test_the_command_line_says_what_it_takes_and_the_whole_command_for_it(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text(LIST)
    where = ("--reports-dir", tmp_path / "my reports", "--sandbox")
    column = ("--column", COLUMNS[0], "--column", COLUMNS[1])
    ended = call("run", tmp_path / "l.csv", "--action", "unassign", *column, *where, "--run-id", "r1")
    path = tmp_path / "my reports" / "r1" / "attention.csv"
    command = f"run '{path}' --reports-dir '{tmp_path / 'my reports'}' --sandbox"
    assert f"Correct it there, then run: telemetron-batch {command}\n" in ended.stdout
    assert f"To take it back: telemetron-batch undo '{path.parent}'\n" in ended.stdout
    page = (path.parent / "report.html").read_text()
    assert f"telemetron-batch {command}".replace("'", "&#39;") in page
    assert f"telemetron-batch undo &#39;{path.parent}&#39;" in page
    fed = call("run", path, *where)
    assert (fed.exit_code, "read with the options of run r1: --action unassign --column customer" in fed.stderr) == (
        1,
        True,
    )
    assert "read with" not in call("run", path, *where, "--quiet").stderr


def test_the_usual_folder_needs_no_word(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(desk.folder)
    ran = returns(desk, reports_dir="reports")
    page = (ran.folder / "report.html").read_text()
    assert f"<code>telemetron-batch run reports/r1/attention.csv --base-url {BASE_URL}</code>" in page
    assert f"<code>telemetron-batch undo r1 --base-url {BASE_URL}</code>" in page


# Undo


def undo(desk: Desk, folder: Path, environ: dict[str, str] | None = None, **flags: Any) -> Ran:
    config = configure_undo(folder, {"run_id": "undo", **flags}, ENVIRON | (environ or {}))
    summary = pipeline.run(config, transport=desk.server, clock=desk.clock)
    return Ran(summary, summary.folder, desk.server)


def refusal(desk: Desk, folder: Path, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(BatchError) as refused:
        undo(desk, folder, environ)
    assert refused.value.exit_code == 2
    return str(refused.value)


def test_undo_takes_a_run_back_beside_it(desk: Desk) -> None:
    ran = returns(desk)
    assert desk.server.fleet.owners("SN-1") == set()
    back = undo(desk, ran.folder)
    assert back.outcomes == ["assigned", "assigned"]
    assert back.folder == desk.folder / "reports" / "undo"
    assert (desk.server.fleet.owners("SN-1"), desk.server.fleet.owners("SN-3")) == ({A}, {B})


def test_undo_twice_is_refused_like_any_content_that_was_processed(desk: Desk) -> None:
    ran = returns(desk)
    undo(desk, ran.folder)
    with pytest.raises(BatchError, match="run undo has already processed exactly this content"):
        undo(desk, ran.folder, run_id="again")


def test_undo_of_an_undo_does_it_again(desk: Desk) -> None:
    ran = returns(desk)
    back = undo(desk, ran.folder)
    assert undo(desk, back.folder, run_id="third").outcomes == ["unassigned", "unassigned"]


def test_a_profile_for_other_files_does_not_disturb_undo(desk: Desk) -> None:
    ran = returns(desk)
    toml = '[p]\naction = "unassign"\nsince-last = true\nsandbox = true\ntrailer-count = "^T;([0-9]+)"\n'
    (desk.folder / "p.toml").write_text(toml)
    assert undo(desk, ran.folder, profile="p", config=str(desk.folder / "p.toml")).outcomes == ["assigned", "assigned"]


def test_the_key_goes_to_the_api_that_the_caller_names(desk: Desk) -> None:
    ran = returns(desk)
    told = refusal(desk, ran.folder, {"TELEMETRON_BASE_URL": "https://other.example/api/ext-v1"})
    assert told.endswith(f"run: telemetron-batch undo {ran.folder} --base-url {BASE_URL}")


def test_where_nothing_was_changed_nothing_is_taken_back(desk: Desk) -> None:
    ran = desk.run([("nobody", "SN-1", "assign")])
    assert refusal(desk, ran.folder) == (
        "there is nothing to take back: run r1 is not sure to have changed anything; nothing was sent"
    )
    assert "telemetron-batch undo" not in (ran.folder / "report.html").read_text()


def test_a_stopped_run_is_to_go_on_first_or_to_be_taken_back_as_far_as_it_went(desk: Desk) -> None:
    rows = [(f"u{n}@x.com", f"SN-{n}", "assign") for n in range(6)]
    ran = desk.run(rows, rate="1/s", deadline="2s")
    told = refusal(desk, ran.folder)
    feed_it = f"telemetron-batch run {ran.folder}/undo.csv --reports-dir {desk.folder}/reports --base-url {BASE_URL}"
    assert told == (
        f"run r1 has not finished; go on with it: telemetron-batch resume {ran.folder} --base-url {BASE_URL}; "
        f"or take back what it has done so far: {feed_it}"
    )


def test_a_finished_run_without_its_file_is_told_how_to_get_it(desk: Desk) -> None:
    ran = returns(desk)
    (ran.folder / "undo.csv").unlink()
    assert refusal(desk, ran.folder).endswith(f"write it again: telemetron-batch report {ran.folder}")


def test_an_unknown_run_is_one_line(tmp_path: Path) -> None:
    ended = call("undo", "nope", "--reports-dir", tmp_path)
    assert (ended.exit_code, ended.stderr) == (
        2, f"Error: there is no run in {tmp_path}/nope; name its id or its folder\n"
    )  # fmt: skip


def test_the_command_takes_the_sandbox_from_the_run_and_asks_nobody_for_a_key(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text(LIST)
    column = ("--column", COLUMNS[0], "--column", COLUMNS[1])
    where = ("--reports-dir", tmp_path / "reports")
    call("run", tmp_path / "l.csv", "--action", "unassign", *column, *where, "--sandbox", "--run-id", "r1")
    ended = call("undo", "r1", *where, "--json")
    assert ended.exit_code == 0
    assert re.search(r'"sandbox": true', ended.stdout)
    assert call("undo", "r1", "--sandbox", *where).exit_code == 2


def test_a_run_in_shards_that_is_not_put_together_is_not_taken_back(desk: Desk) -> None:
    config = configured(desk, Path(desk.file([(A, "SN-1", "assign")])), shards="2", run_id="s")
    plan_shards(config)
    with pytest.raises(JournalError, match="run s has not finished; make its shards, then telemetron-batch report"):
        undo(desk, desk.folder / "reports" / "s")
