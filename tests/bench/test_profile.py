"""What perf says of a stack, whose time it is, and what is made of it; on pieces of what it said."""

from collections import Counter
from xml.etree import ElementTree as ET

import pytest

from tests.bench import profile_flame
from tests.bench.profile import Profile, function_table, part_table
from tests.bench.profile_source import area_of
from tests.bench.profile_stacks import (
    COLLECTOR,
    INTERPRETED,
    LOOP,
    READ,
    UNTOLD,
    WRITTEN,
    Box,
    Frame,
    Names,
    Sample,
    Tally,
    look,
    read,
    tally,
    thread_name,
)

NAMES = Names(
    [
        "outbox",
        "gateway.pipeline",
        "money.journal",
        "upstream.client",
        "wire.anthropic.stream_reader",
        "wire.gemini.stream_reader",
    ]
)
SAID = """\
  682
\t          1d7968 PyUnicode_New (/usr/lib/libpython3.11.so.1.0)
\t          147c4d CPyDef_pipeline____run_Pipeline_gen_____mypyc_generator_helper__ (/a b/trollproxy__mypyc.so)
\t          130b64 uv__read (/lib/uvloop/loop.so)
\tffffffffffffffff [unknown] ([unknown])

  690
\tffffffff820032c0 tcp_v4_rcv ([kernel.kallsyms])
\tffffffff820032c1 [unknown] ([kernel.kallsyms])
\t           a9dd7 [unknown] (/usr/lib/libsqlite3.so.0 (deleted))
\t           a9dd8 std::f(int) (/usr/lib/libstdc++.so.6)
\t           a9dd9 operator() (int) (/usr/lib/libstdc++.so.6)

  691

"""
KERNEL = (Frame("tcp_sendmsg", is_kernel=True), Frame("entry_SYSCALL_64_after_hwframe", is_kernel=True))
EVALUATED = Frame("_PyEval_EvalFrameDefault")
OURS = Frame("CPyDef_outbox___Outbox___flush")
UVLOOP = Frame("__pyx_f_6uvloop_4loop_8UVStream__try_write")
RUN = (Frame("uv__io_poll"), Frame("uv_run"), Frame("__pyx_f_6uvloop_4loop_4Loop__run"), EVALUATED, Frame("_start"))


def test_samples_are_read_with_their_threads() -> None:
    first, second, third = read(SAID.splitlines(keepends=True))
    run = "CPyDef_pipeline____run_Pipeline_gen_____mypyc_generator_helper__"
    assert first == Sample(682, (Frame("PyUnicode_New"), Frame(run), Frame("uv__read")))
    assert second.thread == 690
    assert third == Sample(691, ())


def test_a_frame_without_a_name_is_called_after_its_library() -> None:
    names = [(frame.name, frame.is_kernel) for frame in list(read(SAID.splitlines(keepends=True)))[1].frames]
    assert names == [
        ("tcp_v4_rcv", True),
        ("[kernel.kallsyms]", True),
        ("[libsqlite3.so.0 (deleted)]", False),
        ("std::f(int)", False),
        ("operator() (int)", False),
    ]


@pytest.mark.parametrize(
    ("symbol", "package", "name"),
    [
        ("CPyDef_outbox____let_go", "outbox", "outbox._let_go"),
        ("CPyDef_pipeline___Pipeline____forward", "gateway", "pipeline.Pipeline._forward"),
        ("CPyPy_pipeline___Pipeline_____init__.cold", "gateway", "pipeline.Pipeline.__init__"),
        ("CPyDef_journal____Reader___read", "money", "journal._Reader.read"),
        ("CPyPy_pipeline___serve_Pipeline_gen___send", "gateway", "pipeline.Pipeline.serve"),
        ("CPyDef_pipeline____run_Pipeline_gen_____mypyc_generator_helper__", "gateway", "pipeline.Pipeline._run"),
        ("CPyDef_journal___run__Writer_gen___send", "money", "journal._Writer.run"),
        ("CPyDef_pipeline___peek_gen", "gateway", "pipeline.peek"),
        ("CPyDef_client_____mypyc__send_Client_gen_setup", "upstream", "client.Client.send"),
        ("CPyDef_pipeline_____mypyc___3_run_Pipeline_gen_setup", "gateway", "pipeline.Pipeline._run"),
        ("CPyDef_pipeline___serve_Pipeline_gen_clear_on_completion", "gateway", "pipeline.Pipeline.serve"),
        ("CPyDef_gemini___stream_reader___Reader___feed", "wire", "gemini.stream_reader.Reader.feed"),
    ],
)
def test_a_compiled_function_is_found_by_its_name_in_c(symbol: str, package: str, name: str) -> None:
    assert NAMES.find(symbol) == (package, name)


@pytest.mark.parametrize(
    "symbol", ["CPyDef_elsewhere___f", "CPyDef_outbox", "CPy_DecRef", "PyUnicode_New", "[unknown]"]
)
def test_what_is_not_ours_is_not_found(symbol: str) -> None:
    assert NAMES.find(symbol) is None


@pytest.mark.parametrize(
    ("frames", "part"),
    [
        ((Frame("malloc"), OURS, *RUN), "outbox"),
        ((*KERNEL, Frame("__GI___libc_write"), UVLOOP, OURS, *RUN), WRITTEN),
        ((*KERNEL, Frame("read"), Frame("uv__read"), *RUN), READ),
        ((*KERNEL, Frame("recvmsg"), Frame("uv__read"), *RUN), READ),
        ((Frame("__GI___libc_write"), UVLOOP, OURS, *RUN), LOOP),
        ((*KERNEL, Frame("epoll_pwait"), *RUN), LOOP),
        ((Frame("llhttp__internal_execute"), Frame("__pyx_f_9httptools_6parser_x"), OURS, *RUN), LOOP),
        ((*KERNEL, Frame("__GI___libc_write"), Frame("_Py_write"), EVALUATED, OURS, *RUN), "outbox"),
        ((EVALUATED, *RUN), INTERPRETED),
        ((Frame("malloc"), EVALUATED), INTERPRETED),
        ((Frame("gc_collect_main"), Frame("malloc"), OURS, *RUN), COLLECTOR),
        ((Frame("gc_collect_main"), EVALUATED, *RUN), COLLECTOR),
        ((Frame("[unknown]"), Frame("malloc")), UNTOLD),
        ((), UNTOLD),
    ],
)
def test_the_innermost_known_frame_tells_the_part(frames: tuple[Frame, ...], part: str) -> None:
    assert look(frames, NAMES).part == part


def test_what_a_function_calls_is_its_own() -> None:
    seen = look((*KERNEL, Frame("write"), EVALUATED, OURS, Frame("CPyDef_outbox____let_go"), *RUN), NAMES)
    assert (seen.function, seen.is_kernel, seen.is_interpreted) == (("outbox", "outbox.Outbox.flush"), True, True)


def test_python_beneath_a_function_is_not_in_it() -> None:
    assert not look((Frame("malloc"), OURS, EVALUATED, *RUN), NAMES).is_interpreted


def test_the_collector_is_no_functions_time() -> None:
    assert look((Frame("gc_collect_main"), OURS, *RUN), NAMES).function is None


def test_samples_are_summed_up() -> None:
    sent = Sample(1, (*KERNEL, Frame("writev"), UVLOOP, OURS, *RUN))
    synced = Sample(2, (*KERNEL, Frame("fdatasync"), EVALUATED, Frame("_start")))
    collected = Sample(2, (Frame("gc_collect_main"), EVALUATED))
    found = tally([sent, sent, synced, collected, Sample(3, ())], NAMES, {2: "journal"})
    assert found.parts == {WRITTEN: 2, "thread journal": 1, COLLECTOR: 1, UNTOLD: 1}
    assert (found.functions, found.kernel) == ({"outbox.Outbox.flush": 2}, {"outbox.Outbox.flush": 2})
    assert found.interpreted.total() == 0


def test_stacks_of_a_graph_begin_with_what_the_loop_calls() -> None:
    wrapper = Frame("CPyPy_outbox___Outbox___flush")
    found = tally([Sample(1, (*KERNEL[:1], UVLOOP, OURS, wrapper, Frame("partial"), *RUN))], NAMES, {})
    (stack,) = found.stacks
    assert stack == (
        Box("event loop", "all"),
        Box("uv__io_poll", "loop"),
        Box("partial", "other"),
        Box("outbox.Outbox.flush", "ours"),
        Box(UVLOOP.name, "loop"),
        Box("tcp_sendmsg", "kernel"),
    )


@pytest.mark.parametrize(
    ("name", "shown"), [("journal_0", "journal"), ("sqlite-writer_0", "sqlite-writer"), ("log", "log")]
)
def test_threads_of_a_pool_are_called_by_its_name(name: str, shown: str) -> None:
    assert thread_name(name) == shown
    assert area_of(f"thread (0x1): {name};take (queue.py:1)") == f"thread {shown}"


def test_a_thread_may_have_no_name() -> None:
    assert thread_name("") == "without a name"


def test_tables_tell_microseconds() -> None:
    whole = Tally(
        parts=Counter({"gateway": 3, LOOP: 1}),
        functions=Counter({"pipeline.Pipeline.serve": 2}),
        kernel=Counter({"pipeline.Pipeline.serve": 1}),
    )
    profiles = (Profile(whole, 80, 90, 14), Profile(Tally(parts=Counter({LOOP: 4})), 25, 27, 12))
    assert list(part_table(*profiles))[2:] == [
        f"| {LOOP} | 20.00 | 25.00 |",
        "| gateway | 60.00 |  |",
        "| **all** | 80.00 | 25.00 |",
        "| nginx, all of it | 14.00 | 12.00 |",
        "| trollproxy, while it is sampled | 90.00 | 27.00 |",
    ]
    assert list(function_table(profiles[0]))[2:] == ["| `pipeline.Pipeline.serve` | 40.00 | 20.00 |  |"]


def test_a_graph_is_as_wide_as_its_counts() -> None:
    loop, ours, other = Box("event loop", "all"), Box("a<b>", "ours"), Box('"c"', "other")
    drawn = profile_flame.draw("x & y", {(loop, ours): 3, (loop, ours, other): 1, (loop,): 4}, total_us=80)
    boxes = {
        box.attrib["data-name"]: (float(box.attrib["data-at"]), float(box.attrib["data-wide"]))
        for box in ET.fromstring(drawn).iter("{http://www.w3.org/2000/svg}g")
    }
    assert boxes == {"all": (0, 1), "event loop": (0, 1), "a<b>": (0, 0.5), '"c"': (0, 0.125)}
    assert "<title>a&lt;b&gt;: 40.00 µs, 50.0%</title>" in drawn


def test_what_is_narrower_than_a_pixel_is_left_out() -> None:
    drawn = profile_flame.draw("x", {(Box("wide", "ours"),): 9_999, (Box("narrow", "ours"),): 1}, total_us=80)
    assert "wide" in drawn
    assert "narrow" not in drawn
