"""Prompt files: what each kind of line means, and that every mistake is said with its number before anything starts."""

import json

import pytest

from fsd_gs.config import load_config
from fsd_gs.errors import ConfigError, FsdGsError
from fsd_gs.fleet.prompts import parse_seeds, read_prompts
from fsd_gs.fleet.unit import shard, units_of
from fsd_gs.train.identity import config_key


def write(folder, name, text, encoding="utf-8"):
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


def test_a_text_file_is_a_prompt_a_line(tmp_path):
    rows, notes = read_prompts(write(tmp_path, "p.txt", "\ufeffa red chair\r\n\n# a remark\n  a blue lamp  \n"), ["steps=30"])
    assert [(row.line, row.config.prompt, row.config.steps) for row in rows] == [(1, "a red chair", 30), (4, "a blue lamp", 30)]
    assert notes == []


def test_columns_are_settings_of_a_line_and_win(tmp_path):
    header = "prompt,name,seeds,steps,negative_prompt,noise.beta,guidance.params.interval"
    table = f'{header}\n"a chair, red",Chair One,0-1,,blurred,0.5,\na lamp,,,7,,,\n'
    rows, _ = read_prompts(write(tmp_path, "p.csv", table), ["steps=30", "noise.gamma=0.25"])
    first, second = rows
    assert (first.config.prompt, first.name, first.seeds, first.config.steps) == ("a chair, red", "Chair One", (0, 1), 30)
    assert (first.config.negative_prompt, first.config.noise.beta, first.config.noise.gamma) == ("blurred", 0.5, 0.25)
    assert (second.line, second.name, second.seeds, second.config.steps, second.config.noise.beta) == (3, "", (), 7, 1.0)
    lines = [{"prompt": "a chair, red", "name": "Chair One", "seeds": [0, 1], "noise.beta": 0.5, "negative_prompt": "blurred"}]
    as_json = read_prompts(write(tmp_path, "p.jsonl", json.dumps(lines[0]) + "\n\n"), ["steps=30", "noise.gamma=0.25"])[0][0]
    assert (as_json.config, as_json.name, as_json.seeds) == (first.config, first.name, first.seeds)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.txt", "\n# only this\n", r"p\.txt: no prompts in it"),
        ("p.csv", "promt\na chair\n", r"p\.csv, line 1: unknown column 'promt'; did you mean 'prompt'"),
        ("p.csv", "prompt,stepps\na chair,3\n", r"p\.csv, line 1: unknown column 'stepps'; did you mean 'steps'"),
        ("p.csv", "prompt,noise.betta\na chair,3\n", r"line 1: unknown column 'noise\.betta'; did you mean 'noise\.beta'"),
        ("p.csv", "steps\n3\n", r"line 1: expected a header with a column 'prompt'"),
        ("p.csv", "prompt,prompt\na,b\n", r"line 1: column 'prompt' stands twice"),
        ("p.csv", "prompt,seed\na chair,3\n", r"line 1: column 'seed': a batch sets it itself; use seeds"),
        ("p.csv", "prompt,output\na chair,3\n", r"line 1: column 'output': a batch sets it itself"),
        ("p.csv", "prompt,image\na chair,chair.png\n", r"line 2: image: the prior nano takes words alone; use one of SD 1\.5"),
        ("p.csv", "prompt,image,prior.name\na chair,no-such.png,sd15\n", r"line 2: image: no file 'no-such\.png'; paths count from"),
        ("p.csv", "prompt,steps\na chair,3\na lamp,many\na bed,-1\n", r"line 3: steps: .*\(also wrong: line 4\)"),
        ("p.csv", "prompt,steps\n,3\n", r"line 2: prompt: expected words"),
        ("p.csv", "prompt,steps\na chair, red, 3\n", r"line 2: 3 cells where the header has 2; quote a text"),
        ("p.csv", 'prompt\n"a chair\n', r"line \d: not CSV"),
        ("p.csv", "prompt,seeds\na chair,0-x\n", r"line 2: seeds: expected numbers and ranges such as 0-3,7, got '0-x'"),
        ("p.csv", "prompt,name\na chair,one\na lamp,One\n", r"line 3: name 'One' is that of line 2 \('a chair'\)"),
        ("p.jsonl", '{"prompt": "a chair"}\n{"prompt": \n', r"line 2: not JSON"),
        ("p.jsonl", '["a chair"]\n', r"line 1: expected an object such as .*got list"),
        ("p.jsonl", '{"prompt": 3}\n', r"line 1: prompt: expected text, got 3"),
        ("p.jsonl", '{"prompt": "a chair", "colour": "red"}\n', r"line 1: unknown column 'colour'"),
        ("p.jsonl", '{"prompt": "a \\u0000 chair"}\n', r"line 1: .*expected UTF-8 text"),
        ("p.yaml", "a chair\n", r"expected a file ending in \.txt, \.csv, \.jsonl"),
    ],
)
def test_mistakes_are_named_with_their_line(tmp_path, name, text, message):
    with pytest.raises(FsdGsError, match=message) as caught:
        read_prompts(write(tmp_path, name, text))
    assert "\n" not in str(caught.value)


def test_other_encodings_and_missing_files_are_one_line(tmp_path):
    with pytest.raises(FsdGsError, match=r"line 2: not UTF-8 text"):
        read_prompts(write(tmp_path, "p.txt", "a chair\nein grüner Stuhl\n", "latin-1"))
    with pytest.raises(FsdGsError, match=r"none\.txt: cannot be read"):
        read_prompts(tmp_path / "none.txt")


def test_repeated_lines_are_named_and_made_once(tmp_path):
    rows, notes = read_prompts(write(tmp_path, "p.txt", "a chair\na lamp\na chair\n"))
    assert [row.line for row in rows] == [1, 2]
    assert len(notes) == 1
    assert "line 3: the same as line 1 ('a chair'); made once" in notes[0]


def test_seeds():
    assert parse_seeds("0-3,7") == (0, 1, 2, 3, 7)
    for wrong, message in {
        "": "expected numbers",
        "3-1": "that rises",
        "0-2,1": "seed 1 stands twice",
        "-1": "expected numbers",
        "0-9999999": "at most",
    }.items():
        with pytest.raises(ConfigError, match=message):
            parse_seeds(wrong)


def test_a_unit_is_a_prompt_a_seed_and_the_settings(tmp_path):
    path = write(tmp_path, "p.csv", "prompt,name\na red chair,\nA red chair!,throne\n")
    units = list(units_of(read_prompts(path, ["steps=30"])[0], (0, 7)))
    assert [unit.columns["seed"] for unit in units] == [0, 7, 0, 7]
    assert units[0].key == config_key(load_config(overrides=["prompt=a red chair", "steps=30", "seed=0"]))
    assert units[1].folder == f"a-red-chair/seed-0007-{units[1].key[:8]}"
    assert units[2].folder == f"throne/seed-0000-{units[2].key[:8]}"
    other = next(units_of(read_prompts(path, ["steps=31"])[0], (0,)))
    assert other.key != units[0].key
    assert other.folder != units[0].folder, "changed settings are another folder"
    assert next(units_of(read_prompts(path, ["steps=30"])[0], (0,), rehearsal=True)).key != units[0].key


def test_shards_are_a_partition_that_new_lines_do_not_disturb(tmp_path):
    lines = [f"prompt {i}" for i in range(40)]
    few = list(units_of(read_prompts(write(tmp_path, "p.txt", "\n".join(lines[:30])))[0], (0, 1)))
    more = list(units_of(read_prompts(write(tmp_path, "q.txt", "\n".join(lines)))[0], (0, 1)))
    parts = [shard(few, rank, 4) for rank in range(4)]
    assert sorted(unit.key for part in parts for unit in part) == sorted(unit.key for unit in few)
    assert all(8 <= len(part) <= 22 for part in parts)
    assert all({u.key for u in part} <= {u.key for u in shard(more, rank, 4)} for rank, part in enumerate(parts))


def test_the_image_column_is_the_image_prompt(tmp_path):
    (tmp_path / "chair.png").write_bytes(b"looked at when the prior is loaded")
    lines = f"prompt,image,prior.image_scale\na chair,{tmp_path / 'chair.png'},0.5\na lamp,,\n"
    rows, _ = read_prompts(write(tmp_path, "p.csv", lines), ["prior.name=sd15"])
    assert [(row.config.prior.image, row.config.prior.image_scale) for row in rows] == [(str(tmp_path / "chair.png"), 0.5), (None, 1.0)]
