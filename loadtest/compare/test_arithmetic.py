"""The arithmetic and the parsing, on which every published number stands.

    python3 -B -m unittest discover -s loadtest -t loadtest
"""

import tempfile
import unittest
from pathlib import Path

from hot.processes import Failed
from hot.wrk import Load

from . import charts, conditions, costs, loads, page, rounds, tables
from .published import PUBLISHED
from .record import Record, free_folder, load
from .scenarios import SWEEP, scenarios
from .sides import SIDES
from .summary import Cell, Spread, Summary, changes_of_bucket

HOT = scenarios(quick=True)[0]


def run(value: float, **more) -> dict:
    return {"per_second": value, "failure": None, "cpu_us": {"service": value * 2}} | more


class Medians(unittest.TestCase):
    def test_an_odd_number_of_rounds_has_a_round_as_its_median(self):
        self.assertEqual(Spread.of([9, 1, 2]), Spread(2, 1, 9))

    def test_an_even_number_of_rounds_has_the_middle_of_two(self):
        self.assertEqual(Spread.of([9, 1, 2, 3]), Spread(2.5, 1, 9))

    def test_rounds_without_the_figure_do_not_count(self):
        self.assertEqual(Spread.of([None, 5]), Spread(5, 5, 5))
        self.assertIsNone(Spread.of([None]))

    def test_a_figure_may_lie_deeper(self):
        cell = Cell([run(10), run(30), run(20)])
        self.assertEqual(cell.of("cpu_us", "service"), Spread(40, 20, 60))
        self.assertIsNone(cell.of("cpu_us", "nobody"))

    def test_one_failed_round_takes_the_figures_of_all(self):
        key = {"scenario": "hot", "side": "self", "level": 0}
        raw = {
            "sides": [], "scenarios": [], "absent": [],
            "runs": [key | run(1), key | {"failure": "broken"}],
        }
        cell = Summary(raw).cell("hot", "self")
        self.assertEqual(cell.failure, "broken")
        self.assertIsNone(cell.of("per_second"))
        self.assertEqual(tables.words(cell, "per_second"), "FAILED")

    def test_a_run_without_any_answer_has_failed(self):
        key = {"scenario": "hot", "side": "self", "level": 0}
        raw = {"sides": [], "scenarios": [], "absent": [], "runs": [key | run(0, requests=0)]}
        self.assertEqual(tables.words(Summary(raw).cell("hot", "self"), "per_second"), "FAILED")


class Costs(unittest.TestCase):
    STAT = "42 (a ) b) S 7 1 1 0 -1 4194304 9 9 9 9 100 50 30 20 20 0 1 0 5 6 7"

    def test_a_name_with_parentheses_is_read(self):
        parent, seconds = costs.parse_stat(self.STAT)
        self.assertEqual(parent, 7)
        self.assertAlmostEqual(seconds, 200 / costs.TICKS)

    def test_a_tree_has_grandchildren_and_no_strangers(self):
        parents = {1: (0, 1.0), 2: (1, 2.0), 3: (2, 4.0), 9: (0, 8.0)}
        self.assertEqual(costs.tree(parents, 1), {1, 2, 3})
        self.assertEqual(costs.processor_seconds(parents, 1), 7.0)

    def test_processor_time_is_for_each_request(self):
        before, after = costs.Spent(1, 2, 3), costs.Spent(2, 2.5, 3)
        self.assertEqual(
            after.since(before, 1_000), {"service": 1_000.0, "database": 500.0, "loader": 0.0}
        )

    def test_buckets_are_taken_apart(self):
        text = (
            '# HELP x y\nx_bucket{le="1.0"} 2\nx_bucket{le="2.0"} 5\nx_bucket{le="+Inf"} 5\n'
            'other_bucket{le="1.0"} 9\n'
        )
        self.assertEqual(costs.parse_buckets(text, "x"), {"1.0": 2, "2.0": 3, "+Inf": 0})

    def test_a_batch_counts_with_the_middle_of_its_bucket(self):
        self.assertEqual(changes_of_bucket("1.0", 3), 3)
        self.assertEqual(changes_of_bucket("64.0", 2), 96)


class Answers(unittest.TestCase):
    ENDED = {
        "requests": 10, "not_ok": 4, "connect": 0, "read": 1, "write": 0, "timeout": 1,
        "statuses": {"200": 6, "400": 3, "503": 1},
    }

    def test_refusals_and_failures_are_apart(self):
        found = loads.answers_of(self.ENDED, counted=True)
        self.assertEqual(found, {"accepted": 6, "refused": 3, "failed": 3})

    def test_without_a_count_by_status_no_failure_is_taken_for_a_refusal(self):
        found = loads.answers_of(self.ENDED, counted=False)
        self.assertEqual(found, {"accepted": 6, "refused": 0, "failed": 6})


class Books(unittest.TestCase):
    @staticmethod
    def answers(accepted: int, refused: int = 0, failed: int = 0) -> dict:
        return {"accepted": accepted, "refused": refused, "failed": failed}

    def test_every_answer_took_its_amount(self):
        self.assertEqual(Load.amounts, "-2")
        self.assertIsNone(loads.difference("hot", self.answers(100), 200, 0))
        self.assertIsNone(loads.difference("hot", self.answers(100), 208, 4))

    def test_a_lost_or_a_doubled_change_is_found(self):
        self.assertIn("198 was taken", loads.difference("hot", self.answers(100), 198, 4))
        self.assertIn("210 was taken", loads.difference("hot", self.answers(100), 210, 4))

    def test_a_failed_request_may_have_been_applied(self):
        self.assertIsNone(loads.difference("hot", self.answers(100, failed=3), 206, 0))

    def test_nothing_is_taken_from_an_empty_account(self):
        self.assertIsNone(loads.difference("exhausted", self.answers(0, 50), 0, 8))
        self.assertIsNotNone(loads.difference("exhausted", self.answers(0, 50), 2, 8))

    def test_around_the_line_deposits_and_withdrawals_add_up(self):
        # 1,000 deposits of 1, 500 withdrawals of 2: nothing is left of it.
        self.assertIsNone(loads.difference("mixed", self.answers(1_500, 500), 0, 8))
        self.assertIsNotNone(loads.difference("mixed", self.answers(1_500, 500), 200, 8))


class Raw(unittest.TestCase):
    def record(self) -> Record:
        found = Record(quick=True, sides=[{"id": "self", "kind": "ours"}, {"id": "x", "kind": "peer"}])
        found.add_scenario(HOT, rounds=1, seconds=1)
        for side in ("self", "x"):
            found.add_run("hot", side, 0, 0, failure=None, per_second=1.5)
        return found

    def test_a_journal_that_is_not_clean_takes_the_results_of_our_sides(self):
        found = self.record()
        found.set_verified(HOT, clean=False)
        found.set_verified(HOT, clean=True)
        self.assertEqual(found.scenarios[0]["verify"], "fail")
        self.assertEqual([bool(run["failure"]) for run in found.runs], [True, False])

    def test_what_is_written_is_read_again(self):
        with tempfile.TemporaryDirectory() as folder:
            path = self.record().write(Path(folder))
            self.assertEqual(load(path)["runs"][1]["per_second"], 1.5)
            self.assertTrue(load(path)["partial"])


class Words(unittest.TestCase):
    def test_figures_are_as_long_as_they_are_exact(self):
        for value, text in (
            (47_050.3, "47,050"), (319.4, "319"), (16.37, "16.4"), (1.0, "1.00"), (0.0065, "0.0065"),
            (0, "0.00"),
        ):
            self.assertEqual(tables.figure(value), text)

    def test_a_spread_is_shown_if_there_is_one(self):
        self.assertEqual(tables.spread(Spread(2_000, 1_000, 3_000)), "2,000 (1,000–3,000)")
        self.assertEqual(tables.spread(Spread(5, 5, 5)), "5.00")
        self.assertEqual(tables.spread(None), "–")

    def test_an_axis_has_round_ends(self):
        low, high, steps = charts.nice_range(3, 47)
        self.assertEqual((low, high), (2, 50))
        self.assertEqual(steps, [2, 5, 10, 20, 50])
        low, high, steps = charts.nice_range(0.5, 99_000)
        self.assertEqual((low, high, steps[0]), (0.5, 100_000, 1))

    def test_an_axis_for_one_value_has_a_length(self):
        low, high, _ = charts.nice_range(10, 10)
        self.assertLess(low, high)

    def test_nothing_of_the_data_is_taken_for_markup(self):
        self.assertEqual(page.inline("a < `b`"), "a &lt; <code>b</code>")

    def test_percentiles_without_enough_answers_are_left_out(self):
        runs = [run(1, requests=1_000, curve_ms=[[50, 1], [99, 2], [99.9, 3], [100, 4]])]
        self.assertEqual([at for at, _ in charts.curve(Cell(runs))], [50, 99])


class Lists(unittest.TestCase):
    def test_every_side_is_in_a_scenario_or_says_why_not(self):
        for scenario in scenarios(quick=False):
            reasons = [side.lacks(scenario) for side in SIDES]
            self.assertIn(None, reasons, scenario.id)
            self.assertNotIn("", reasons, scenario.id)

    def test_the_quick_form_leaves_out_no_scenario(self):
        quick, full = scenarios(quick=True), scenarios(quick=False)
        self.assertEqual([each.id for each in quick], [each.id for each in full])
        sweep = next(each for each in full if each.id == "sweep")
        self.assertEqual(tuple(level.number for level in sweep.levels), SWEEP)

    def test_ids_are_unique(self):
        for ids in ([side.id for side in SIDES], [each.id for each in scenarios(True)]):
            self.assertEqual(len(ids), len(set(ids)))

    def test_the_order_alternates(self):
        hot = scenarios(True)[0]
        order = [step.side.id for step in rounds.steps(hot, SIDES, 2)]
        self.assertEqual(order, order[::-1])

    def test_the_quick_form_takes_less_than_ten_minutes(self):
        seconds = rounds.planned_seconds(scenarios(True), SIDES, rounds.QUICK)
        # The rest is for building everything.
        self.assertLess(seconds, 7 * 60)

    def test_a_published_figure_has_a_source_and_a_difference(self):
        for each in PUBLISHED:
            self.assertTrue(all((each.system, each.figure, each.source, each.differs)), each)


class Trust(unittest.TestCase):
    """What takes a figure off the page."""

    def test_entries_that_are_missing_or_too_many_are_found(self):
        answers = {"accepted": 10, "refused": 0, "failed": 1}
        self.assertIsNone(loads.missing(answers, 20, in_flight=2, entries=2))
        self.assertIsNone(loads.missing(answers, 26, in_flight=2, entries=2))
        self.assertIn("19 entries", loads.missing(answers, 19, in_flight=2, entries=2))
        self.assertIn("27 entries", loads.missing(answers, 27, in_flight=2, entries=2))

    def test_more_than_one_failure_in_a_hundred_fails_the_run(self):
        loads.check_failures({"accepted": 60, "refused": 40, "failed": 1})
        with self.assertRaises(Failed):
            loads.check_failures({"accepted": 60, "refused": 40, "failed": 2})
        with self.assertRaises(Failed):
            loads.check_failures({"accepted": 0, "refused": 0, "failed": 1})

    def test_times_of_the_quick_few_are_not_shown(self):
        answers = {"accepted": 20, "refused": 9, "failed": 0}
        self.assertFalse(loads.are_times_known(answers, connections=10))
        self.assertTrue(loads.are_times_known(answers | {"refused": 10}, connections=10))

    def test_failures_below_that_stand_beside_the_figure(self):
        self.assertEqual(tables.words(Cell([run(1, failed=0), run(3, failed=2)]), "per_second"),
                         "2.00 (1.00–3.00) [2 failed]")

    def test_the_file_system_is_that_of_the_nearest_mount(self):
        with tempfile.TemporaryDirectory() as folder:
            mounts = Path(folder) / "mounts"
            mounts.write_text("a / ext4 rw 0 0\nb /srv/a\\040b tmpfs rw 0 0\n")
            self.assertEqual(conditions.file_system(Path("/srv/a b/c"), mounts), "tmpfs")
            self.assertEqual(conditions.file_system(Path("/srv/c"), mounts), "ext4")

    def test_a_measurement_overwrites_none(self):
        with tempfile.TemporaryDirectory() as folder:
            first = free_folder(Path(folder), quick=False)
            first.mkdir()
            self.assertEqual(free_folder(Path(folder), quick=False).name, first.name + "-2")
            self.assertEqual(free_folder(Path(folder), quick=True).name, first.name + "-quick")


if __name__ == "__main__":
    unittest.main()
