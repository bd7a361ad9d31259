"""What the table of two servers says, and what it leaves out."""

from slipstream.loadtest.peers.rounds import Name, PeerRun, order
from slipstream.loadtest.peers.table import facts, paired, table


def run(name: Name, number: int, ttft_ms: float | None, tokens_per_s: float = 100.0) -> PeerRun:
    values = {"ttft_p50": ttft_ms, "output_tokens_per_s": tokens_per_s, "error_share": 0.0}
    values["whole_output_tokens_per_s"] = tokens_per_s / 2
    return PeerRun(name, number, number, f"serve {name}", 96.0, values)


def rounds(count: int, ours: float, peer: float) -> list[PeerRun]:
    noise = [1 + 0.01 * (number % 3) for number in range(1, count + 1)]
    return [
        one
        for number, factor in enumerate(noise, 1)
        for one in (run("slipstream", number, ours * factor), run("llama-server", number, peer * factor, 50.0))
    ]


def test_each_server_is_first_in_every_other_round() -> None:
    assert [order(number)[0] for number in range(1, 5)] == ["slipstream", "llama-server"] * 2


def test_a_ratio_is_ours_over_the_peers_with_its_interval() -> None:
    lines = table(rounds(6, 200, 400)).splitlines()
    (ttft,) = (line for line in lines if line.startswith("| TTFT p50"))
    assert ttft.split(" | ")[1] == "less"
    assert ttft.endswith("| 0.50 [0.50–0.50] |")
    (rate,) = (line for line in lines if line.startswith("| Output tokens/s |"))
    assert "| more | 100 | 50 | 2.00 [" in rate
    (whole,) = (line for line in lines if line.startswith("| Output tokens/s, to the last answer"))
    assert "| more | 50 | 25 | 2.00 [" in whole


def test_a_share_of_nothing_has_no_ratio() -> None:
    (errors,) = (line for line in table(rounds(6, 1, 1)).splitlines() if line.startswith("| Failed requests"))
    assert errors.endswith("| 0% | 0% | – |")


def test_a_number_that_one_run_lacks_is_left_out_and_so_is_a_round_without_its_pair() -> None:
    runs = [*rounds(6, 200, 400), run("slipstream", 7, 1.0)]
    assert len(paired(runs)) == 6
    assert table(runs) == table(runs[:-1])
    runs[0] = run("slipstream", 1, None)
    assert "TTFT" not in table(runs)
    assert "Output tokens/s" in table(runs)


def test_too_few_rounds_have_no_interval_and_say_so() -> None:
    runs = rounds(5, 200, 400)
    assert "[" not in table(runs)
    *starts, said = facts(runs)
    assert said == "5 rounds; an interval needs 6"
    assert starts[1] == "llama-server: serve llama-server; 96 prompt tokens a request with its chat template"
    assert list(facts(rounds(6, 1, 1)))[-1] == "6 rounds"
