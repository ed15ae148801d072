"""The raw data: one JSON document, from which every number of the report is made."""

from __future__ import annotations

import datetime
import itertools
import json
from dataclasses import dataclass, field
from pathlib import Path

from .scenarios import Scenario
from .sides import Side

FORMAT = 1


@dataclass
class Record:
    """What has been measured so far."""

    quick: bool
    conditions: dict[str, str] = field(default_factory=dict)
    sides: list[dict] = field(default_factory=list)
    scenarios: list[dict] = field(default_factory=list)
    runs: list[dict] = field(default_factory=list)
    absent: list[dict] = field(default_factory=list)
    partial: bool = True

    def add_side(self, side: Side):
        self.sides.append(
            {"id": side.id, "name": side.name, "kind": side.kind, "does": side.does}
        )

    def add_scenario(self, scenario: Scenario, rounds: int, seconds: int):
        self.scenarios.append(
            {
                "id": scenario.id,
                "title": scenario.title,
                "what": scenario.what,
                "kind": scenario.kind,
                "unit": scenario.unit,
                "levels": [level.number for level in scenario.levels],
                "rounds": rounds,
                "seconds": seconds,
                "counted": scenario.counted,
                "verify": "not run",
            }
        )

    def set_verified(self, scenario: Scenario, clean: bool):
        """A journal that was not clean once stays so. Its results have failed."""
        known = next(each for each in self.scenarios if each["id"] == scenario.id)
        if clean:
            known["verify"] = "pass" if known["verify"] != "fail" else "fail"
            return
        known["verify"] = "fail"
        ours = {side["id"] for side in self.sides if side["kind"] == "ours"}
        for run in self.runs:
            if run["scenario"] == scenario.id and run["side"] in ours and not run["failure"]:
                run["failure"] = "the journal was not clean afterwards"

    def add_run(self, scenario: str, side: str, level: int, number: int, **figures):
        key = {"scenario": scenario, "side": side, "level": level, "round": number}
        self.runs.append(key | figures)

    def add_absent(self, scenario: Scenario, side: Side, why: str):
        self.absent.append({"scenario": scenario.id, "side": side.id, "why": why})

    def write(self, folder: Path) -> Path:
        """Writes `raw.json`, and returns its path."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "raw.json"
        members = {"format": FORMAT} | vars(self)
        lines = (f"{json.dumps(name)}: {value_text(value)}" for name, value in members.items())
        path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
        return path


def value_text(value) -> str:
    """A list with a line for each element, so that a difference of two files can be read."""
    if not isinstance(value, list) or not value:
        return json.dumps(value, ensure_ascii=False)
    return "[\n" + ",\n".join(json.dumps(each, ensure_ascii=False) for each in value) + "\n]"


def load(path: Path) -> dict:
    document = json.loads(path.read_text())
    if document.get("format") != FORMAT:
        raise ValueError(f"{path} has format {document.get('format')}, not {FORMAT}")
    return document


def free_folder(results: Path, quick: bool) -> Path:
    """A folder of today that has no measurement yet: an hour's work is not overwritten."""
    day = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d")
    name = f"{day}-quick" if quick else day
    return next(
        folder
        for number in itertools.count(1)
        if not (folder := results / (name if number == 1 else f"{name}-{number}")).exists()
    )
