"""Signals, exits, forks, other processes, bursts, clocks, callbacks: what becomes of the records.

The numbers are scaled to a small machine; `make testbed` runs the full ones.
"""

from __future__ import annotations

import http.client
import signal
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import orjson
import pytest
from faults.proof import Child, agrees, balance, lines, missing, names, port_of
from faulty import FaultyBackend, Spawned

from otel_empathy.pipeline import segments

pytestmark = pytest.mark.timeout(60)  # programs that a busy machine starts slowly


def told(home: Path, **more: Any) -> dict[str, Any]:
    """What most children are told."""
    return {"home": home, "who": "a", **more}


# -- P1, P2 -------------------------------------------------------------------------------------
@pytest.mark.fault("P1")
def test_sigterm_right_behind_ten_thousand_spans_loses_none_that_was_acknowledged(
    empathy_home: Path, spawned: Spawned
) -> None:
    ends = {"b": spawned.endpoint}
    with Child("ends", how="signal", count=10_000, **told(empathy_home, endpoints=ends)) as child:
        acked = child.hear("acked")
        assert child.heard[-1]["own_handlers"]
        child.signal(signal.SIGTERM)
        assert child.end() == -signal.SIGTERM
    assert missing(names(empathy_home), "a", acked) == []
    balance(empathy_home)


@pytest.mark.fault("P1")
@pytest.mark.parametrize(
    ("how", "number", "status"),
    [("signal", signal.SIGINT, -signal.SIGINT), ("handler", signal.SIGTERM, 3)],
    ids=["interrupt", "the application's own handler"],
)
def test_a_signal_that_ends_the_program_in_order_loses_nothing_at_all(
    empathy_home: Path, spawned: Spawned, how: str, number: int, status: int
) -> None:
    ends = {"b": spawned.endpoint}
    with Child("ends", how=how, count=10_000, **told(empathy_home, endpoints=ends)) as child:
        child.hear("acked")
        sent = time.monotonic()
        child.signal(number)
        assert child.end() == status
        assert time.monotonic() - sent <= 2.5
    assert names(empathy_home) == Counter(f"a-{n}" for n in range(10_000))
    balance(empathy_home)


@pytest.mark.fault("P1")
def test_a_handler_that_raises_in_the_middle_of_a_write_breaks_nothing(
    empathy_home: Path, spawned: Spawned
) -> None:
    with Child(
        "interrupted", home=empathy_home, times=1000, endpoints={"b": spawned.endpoint}
    ) as child:
        assert child.hear("rung", 100) == 1000
        assert child.heard[-1]["flushed"]
        assert child.hear("missing") == []
        assert child.end() == 0
    agrees(child.last("ledger"))
    row = balance(empathy_home).backends["b"]
    assert row.acked == child.last("ledger")["acked"]
    assert row.pending == 0
    got = spawned.received()
    assert set(got["names"]["traces"]) == set(names(empathy_home))
    assert got["duplicates"] == 0


@pytest.mark.fault("P1")
@pytest.mark.parametrize("log", [True, False], ids=["log", "memory"])
def test_spans_that_end_in_handlers_and_finalisers_meet_no_lock_of_their_own_thread(
    empathy_home: Path, spawned: Spawned, log: bool
) -> None:
    with Child(
        "reentrant", home=empathy_home, times=500, endpoints={"b": spawned.endpoint}, log=log
    ) as child:
        ended = child.hear("ended", 100)
        assert child.heard[-1]["flushed"]
        assert child.end() == 0
    agrees(child.last("ledger"))
    expected = Counter(f"{who}-{n}" for who, count in ended.items() for n in range(count))
    assert spawned.received()["names"]["traces"] == expected
    if log:
        assert names(empathy_home) == expected


@pytest.mark.fault("P2")
@pytest.mark.parametrize(
    ("how", "status"), [("raise", 1), ("thread", 0), ("return", 0), ("late", 0)]
)
def test_every_orderly_end_of_a_program_leaves_every_span(
    empathy_home: Path, how: str, status: int
) -> None:
    with Child("ends", how=how, count=400, pause=0.001, **told(empathy_home)) as child:
        child.hear("acked")
        assert child.end() == status
    assert names(empathy_home) == Counter(f"a-{n}" for n in range(401 if how == "late" else 400))
    balance(empathy_home)


TRIES = 10  # programs of which one meets a disk and a machine that are quick enough


@pytest.mark.fault("P2")
def test_a_program_that_just_leaves_has_written_each_span_when_it_ended_at_write_through_pace(
    tmp_path: Path,
) -> None:
    count = 200
    for number in range(TRIES):
        home = tmp_path / str(number)
        with Child(
            "ends", how="os._exit", count=count, pause=0.001, each=True, **told(home)
        ) as child:
            acked = child.hear("acked")
            durability = child.heard[-1]["durability"]
            assert child.end() == 0
        assert missing(names(home), "a", acked) == []
        balance(home)
        each = [said["each"] for said in child.heard if "each" in said]
        assert len(each) == count
        if each == list(range(1, count + 1)) and durability == "sync":
            assert names(home) == Counter(f"a-{n}" for n in range(count))
            return
    pytest.fail(f"in none of {TRIES} programs was each span acknowledged when it had ended: {each}")


@pytest.mark.fault("P2")
def test_a_program_that_leaves_at_full_pace_loses_one_window_at_the_most(tmp_path: Path) -> None:
    ages: list[float] = []
    for number in range(5):
        home = tmp_path / str(number)
        with Child("leaves", home=home, count=20_000) as child:
            acked = child.hear("acked")
            ages.append(child.heard[-1]["age"])
            assert child.heard[-1]["durability"] == "batched" or acked == 20_000
            assert child.end() == 0
        assert missing(names(home), "a", acked) == []
        balance(home)
    # A batch grows for 50 ms, and the one before it is being written for a few more. Where a
    # program leaves within that time is chance.
    assert median(ages) <= 0.1, ages
    assert max(ages) > 0, "nothing was batched"


# -- P3 -----------------------------------------------------------------------------------------
@pytest.mark.fault("P3")
@pytest.mark.timeout(90)
def test_forks_while_threads_emit_end_in_no_deadlock_and_no_record_twice(
    empathy_home: Path, spawned: Spawned
) -> None:
    count, threads = 60, 8
    with Child(
        "forks", home=empathy_home, count=count, threads=threads, endpoints={"b": spawned.endpoint}
    ) as child:
        assert child.hear("stuck", 80) == 0
        said = child.heard[-1]
        assert child.end() == 0
    assert said["identities"] == count + 1
    agrees(child.last("ledger"))
    found = names(empathy_home)
    expected = Counter(f"p{t}-{n}" for t, ended in enumerate(said["ended"]) for n in range(ended))
    expected.update(f"f{n}-{one}" for n in range(count) for one in range(3))
    assert found == expected
    instances = {segment.name.instance for segment in segments.listed(empathy_home, "traces")}
    assert len(instances) == count + 1
    balance(empathy_home)


@pytest.mark.fault("P3")
def test_a_fork_that_ran_no_hook_is_noticed_at_the_first_record(empathy_home: Path) -> None:
    with Child("hookless", home=empathy_home) as child:
        assert child.hear("child") == [True, 10]
        assert child.hear("same")
        assert child.end() == 0
    agrees(child.last("ledger"))
    expected = Counter(f"parent-{n}" for n in range(20)) + Counter(f"child-{n}" for n in range(10))
    assert names(empathy_home) == expected
    assert len({s.name.instance for s in segments.listed(empathy_home, "traces")}) == 2
    balance(empathy_home)


@pytest.mark.fault("P3")
def test_a_forked_child_does_not_count_its_parents_values_again(
    empathy_home: Path, spawned: Spawned
) -> None:
    with Child("counted", home=empathy_home, endpoints={"b": spawned.endpoint}) as child:
        assert child.hear("done")
        assert child.end() == 0
    last: dict[str, int] = {}
    for segment in segments.listed(empathy_home, "metrics"):
        for line in segment.path.read_bytes().splitlines():
            for outer in orjson.loads(line)["resourceMetrics"]:
                for inner in outer["scopeMetrics"]:
                    for metric in inner["metrics"]:
                        if metric["name"] == "seen":
                            (point,) = metric["sum"]["dataPoints"]
                            last[segment.name.instance] = int(point["asInt"])
    assert sorted(last.values()) == [2, 6]
    balance(empathy_home)


# -- P4 -----------------------------------------------------------------------------------------
@pytest.mark.fault("P4")
@pytest.mark.timeout(60)
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_of_multiprocessing_lose_nothing(empathy_home: Path, method: str) -> None:
    # At so many each, some still wait in a batch when the process leaves.
    count, each = 3, 8000
    with Child("processes", home=empathy_home, method=method, count=count, each=each) as child:
        assert set(child.hear("codes", 50)) == {0}
        assert child.end() == 0
    agrees(child.last("ledger"))
    whos = [f"{method}{n}" for n in range(2 if method == "fork" else count)]
    if method == "fork":
        assert child.last("workers") == count
        whos += [f"task{n}" for n in range(count)]
    expected = Counter(f"{who}-{n}" for who in whos for n in range(each))
    expected.update(f"parent-{n}" for n in range(10))
    assert names(empathy_home) == expected
    assert balance(empathy_home).acked["traces"] == expected.total()


@pytest.mark.fault("P4")
@pytest.mark.timeout(60)
@pytest.mark.component("gunicorn")
@pytest.mark.parametrize("preload", [True, False], ids=["preloaded", "loaded by each worker"])
def test_workers_of_gunicorn_lose_no_span_of_any_request(empathy_home: Path, preload: bool) -> None:
    pytest.importorskip("gunicorn")
    with Child("served", home=empathy_home, workers=3, preload=preload) as child:
        port = port_of(child)
        served: Counter[str] = Counter()
        count = 0
        while count < 300 or len(served) == 1:  # the second worker may come up late
            line = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            line.request("GET", f"/?r-{count}")
            served[line.getresponse().read().decode()] += 1
            line.close()
            count += 1
        child.signal(signal.SIGTERM)
        child.end()
    assert names(empathy_home) == Counter(f"r-{n}" for n in range(count))
    assert len({s.name.instance for s in segments.listed(empathy_home, "traces")}) == len(served)
    balance(empathy_home)


# -- P6, P7, P8 ---------------------------------------------------------------------------------
@pytest.mark.fault("P6")
@pytest.mark.timeout(60)
def test_a_burst_of_ten_times_the_pace_is_written_and_shipped_whole(
    empathy_home: Path, spawned: Spawned
) -> None:
    with Child(
        "burst", home=empathy_home, count=20_000, endpoints={"b": spawned.endpoint}
    ) as child:
        assert child.hear("flushed", 40)
        assert child.end() == 0
    agrees(child.last("ledger"))
    assert child.last("ledger")["dropped"] == {}
    assert names(empathy_home) == Counter(f"a-{n}" for n in range(20_000))
    got = spawned.received()
    assert (got["spans"], got["duplicates"]) == (20_000, 0)
    assert balance(empathy_home).backends["b"].pending == 0


@pytest.mark.fault("P6")
def test_a_burst_that_memory_cannot_hold_is_counted_to_the_last_record(
    empathy_home: Path, spawned: Spawned
) -> None:
    spawned.set("status:503")
    with Child(
        "burst", home=empathy_home, count=20_000, endpoints={"b": spawned.endpoint},
        buffer_bytes=20_000,
    ) as child:  # fmt: skip
        child.hear("flushed", 40)
        assert child.end() == 0
    ledger = child.last("ledger")
    agrees(ledger)
    assert set(ledger["dropped"]) <= {"queue_full"}
    found = names(empathy_home)
    assert found.total() + ledger["dropped"].get("queue_full", 0) == 20_000
    assert balance(empathy_home).dropped == ledger["dropped"]


PARTS, ROUNDS = 6, 60


def growing(series: Mapping[str, Sequence[tuple[int, int]]]) -> dict[str, list[tuple[int, int]]]:
    """Lines of code of which every part of the work leaves more objects, or more bytes, behind.

    One object a round is a leak. Half of that is asked for, in each part: what merely comes and
    goes is not so steady.
    """
    return {
        line: list(values)
        for line, values in series.items()
        if all(b[0] - a[0] >= ROUNDS // 2 for a, b in pairwise(values))
        or all(b[1] - a[1] >= ROUNDS * 256 for a, b in pairwise(values))
    }


@pytest.mark.fault("P7")
@pytest.mark.timeout(180)
def test_a_dead_backend_makes_nothing_grow(empathy_home: Path, spawned: Spawned) -> None:
    dead = ["status:503"] * 4 + ["close"] * 4 + ["hang"] * 2
    spawned.set(*dead * PARTS * ROUNDS)
    ends = {"b": spawned.endpoint}
    with Child(
        "grows", home=empathy_home, endpoints=ends, parts=PARTS, rounds=ROUNDS, records=20
    ) as child:
        for _ in range(PARTS):
            child.hear("held", 120)
        assert child.end() == 0
    agrees(child.last("ledger"))
    # The first two parts fill whatever is bounded.
    parts = [said for said in child.heard if "held" in said][2:]
    held = [part["held"] for part in parts]
    assert held[-1]["files"] <= held[0]["files"] + 3, held
    assert held[-1]["threads"] <= held[0]["threads"], held
    assert held[-1]["rss"] - held[0]["rss"] < 16 << 20, held
    lines = {line for part in parts for line in part["living"]}
    living = {line: [part["living"].get(line, (0, 0)) for part in parts] for line in lines}
    assert growing(living) == {}
    found = balance(empathy_home)
    assert found.acked["traces"] == PARTS * ROUNDS * 20
    assert set(found.backends["b"].dropped) == {"backlog_cap"}
    assert spawned.received()["spans"] == 0


AROUND = {
    "agent": "invoke_agent ", "workflow": "invoke_workflow ", "tool": "execute_tool ",
}  # fmt: skip


@pytest.mark.fault("P8")
def test_a_step_of_the_clock_changes_no_duration(empathy_home: Path) -> None:
    with Child("clocks", home=empathy_home, endpoints={}) as child:
        lasted = child.hear("lasted")
        assert child.end() == 0
    found = durations(empathy_home)
    assert len(lasted) == 12  # an hour and twenty years, forth and back
    for name, (least, most) in lasted.items():
        duration = found[AROUND[name.split()[0]] + name]
        assert duration >= 0
        # Both bounds were taken by the monotonic clock, inside and around.
        assert least - 1e-6 <= duration <= most + 1e-6, name


def durations(home: Path) -> dict[str, float]:
    """How long each span of the log lasted, in seconds."""
    return {
        span["name"]: (int(span["endTimeUnixNano"]) - int(span["startTimeUnixNano"])) / 1e9
        for line in lines(home)
        for outer in orjson.loads(line)["resourceSpans"]
        for inner in outer["scopeSpans"]
        for span in inner["spans"]
    }


@pytest.mark.fault("P8")
def test_steps_of_the_clock_lose_nothing_and_names_stay_unique(
    empathy_home: Path, spawned: Spawned
) -> None:
    with Child("clocks", home=empathy_home, endpoints={"b": spawned.endpoint}) as child:
        count = child.hear("count")
        assert child.heard[-1]["flushed"]
        lasted = child.heard[-1]["lasted"]
        assert child.end() == 0
    agrees(child.last("ledger"))
    expected = Counter(f"a-{n}" for n in range(count))
    expected.update(AROUND[name.split()[0]] + name for name in lasted)
    assert Counter(spawned.received()["names"]["traces"]) == expected
    found = segments.listed(empathy_home, "traces")
    assert len({str(one.name) for one in found}) == len(found)
    assert any(one.name.utc > "2040" for one in found)


# -- P9 and the edges of configure, flush and shutdown ------------------------------------------
@pytest.mark.fault("P9")
def test_values_that_raise_or_recurse_harm_nobody_and_are_counted(empathy_home: Path) -> None:
    with Child("nasty", home=empathy_home, what="values") as child:
        child.hear("leaving")
        assert child.end() == 0
    ledger = child.last("ledger")
    agrees(ledger)
    kinds = ("text", "number", "odd", "loop", "deep", "nan", "surrogate", "huge", "bytes",
             "long", "many", "none", "nul")  # fmt: skip
    lost = ledger["dropped"].get("encode_error", 0)
    assert names(empathy_home).total() >= len(kinds) - lost
    for line in lines(empathy_home):
        assert len(line) <= 512 * 1024
        orjson.loads(line)
    assert balance(empathy_home).dropped == ledger["dropped"]


@pytest.mark.fault("P9")
def test_a_callback_that_hangs_does_not_hold_up_the_exit(empathy_home: Path) -> None:
    with Child("nasty", home=empathy_home, what="callback") as child:
        leaving = child.hear("leaving")
        assert child.end() == 0
        assert time.monotonic() - leaving <= 5
    assert names(empathy_home) == Counter(f"a-{n}" for n in range(10))
    balance(empathy_home)


@pytest.mark.fault("P9")
def test_a_callback_that_raises_costs_only_its_own_value(empathy_home: Path) -> None:
    with Child("nasty", home=empathy_home, what="raising") as child:
        child.hear("leaving")
        assert child.end() == 0
    written = b"".join(lines(empathy_home, "metrics"))
    assert b'"works"' in written
    assert b'"raises"' not in written
    assert names(empathy_home) == Counter(f"a-{n}" for n in range(10))


@pytest.mark.fault("P2")
@pytest.mark.component("opentelemetry-sdk")
@pytest.mark.parametrize("mode", ["ok", "hang"])
def test_providers_of_the_application_are_joined_and_left_alone(
    empathy_home: Path, spawned: Spawned, mode: str
) -> None:
    spawned.set(mode)
    with Child(
        "owned", home=empathy_home, endpoints={"b": spawned.endpoint}, fork=mode == "ok"
    ) as child:
        assert child.hear("same")
        assert child.heard[-1]["theirs"] == 20
        leaving = child.hear("leaving")
        assert child.end() == 0
        assert time.monotonic() - leaving <= 5
    expected = Counter(f"a-{n}" for n in range(20))
    if mode == "ok":
        expected.update(f"child-{n}" for n in range(5))
    assert names(empathy_home) == expected
    written = b"".join(line for kind in ("logs", "metrics") for line in lines(empathy_home, kind))
    assert b'"said"' in written
    assert b'"theirs"' in written
    balance(empathy_home)


@pytest.mark.fault("P2")
def test_shutting_down_and_configuring_twice_loses_and_doubles_nothing(
    empathy_home: Path, spawned: Spawned
) -> None:
    with Child("twice", home=empathy_home, endpoints={"b": spawned.endpoint}) as child:
        assert child.hear("warned") == 1
        assert child.heard[-1]["flushed"]
        assert child.heard[-1]["unconfigured"]
        assert child.end() == 0
    for said in child.heard:
        if "ledger" in said:
            agrees(said["ledger"])
    expected = Counter(f"{who}-{n}" for who in "abc" for n in range(10))
    assert names(empathy_home) == expected
    assert Counter(spawned.received()["names"]["traces"]) == expected
    balance(empathy_home)


@pytest.mark.fault("P6")
@pytest.mark.parametrize("how", ["flush", "leave"])
def test_without_a_log_the_ledger_says_what_memory_lost(
    empathy_home: Path, spawned: Spawned, how: str
) -> None:
    ends = {"b": spawned.endpoint}
    if how == "leave":
        spawned.set("hang")
    with Child("memory_only", home=empathy_home, endpoints=ends, count=3000, how=how) as child:
        assert child.hear("files") == []
        assert child.end() == 0
    ledger = child.last("ledger")
    agrees(ledger)
    row = ledger["backends"]["b"]
    assert ledger["durability"] == "memory"
    assert row["pending"] == 0
    got = spawned.received()
    if how == "flush":
        assert child.last("flushed")
        assert got["spans"] + row["dropped"].get("queue_full", 0) == 3000
    else:
        assert row["dropped"]["shutdown"] > 0
        assert row["acked"] == row["shipped"] + sum(row["dropped"].values())


@pytest.mark.fault("P2")
def test_flush_is_true_only_when_everything_has_arrived(
    empathy_home: Path, backend: FaultyBackend
) -> None:
    backend.set("slow:0.3")
    ends = {"b": backend.endpoint}
    with Child("ends", how="flush", count=500, **told(empathy_home, endpoints=ends)) as child:
        assert child.hear("flushed")
        assert backend.received()["spans"] == 500
        assert child.end() == 0
    agrees(child.last("ledger"))
    row = child.last("ledger")["backends"]["b"]
    assert (row["pending"], row["dropped"]) == (0, {})
