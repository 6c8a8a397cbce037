"""Whether an actogram finds the movements of long synthetic cines, their part and their speed.

    python -m benchmarks actogram --model workspaces/demo/models/movement/fetalmovnet_s

Films women of the synthetic hospital for a minute each: the parts in view move one after another, with rests, and the
probe moves at other times. Compares the actograms with what was filmed. The limits of `fetalflow/inference/actogram`
were set on other women (`--tune` films and observes these, and prints the counts for other limits). `--train` trains
the network that names what moves on the scene `moving` of other women. Everything is kept in `--folder`, so that a
command that was stopped goes on. Writes benchmarks/results/actogram.json.
"""

import argparse
from collections.abc import Iterator, Sequence
from datetime import date
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.claims import write_claims
from benchmarks.studies.actogram_jobs import filmed, observed, trained
from fetalflow.evaluation.intervals import bootstrap, percentile_interval
from fetalflow.hospital.phantom.movement.long_cine import PROBE
from fetalflow.inference.actogram.events import BEGINS, ENDS, spells
from fetalflow.inference.actogram.scoring import Moved, chunks, matched, moves_in, overlap, score_of
from fetalflow.inference.latency import machine

TUNED_ON, TRAINED_ON, TESTED_ON = 31, 101, 53  # seeds: each is other women
DRAWS = 10_000
CURL = 0.816  # AUROC of arXiv 2510.20214: 92 women, half an hour each; another data set, so no comparison


def events_of(result: dict[str, Any]) -> tuple[list[Moved], list[Moved]]:
    """The found and the true events of the fetus."""
    found = [Moved(each["label"], each["start_s"], each["end_s"]) for each in result["actogram"]["events"]]
    true = [Moved(each["what"], each["start"], each["end"]) for each in result["true"] if each["what"] != PROBE]
    return found, true


def counts_of(result: dict[str, Any]) -> dict[str, float]:
    """Of one woman: numbers of events, and sums for the means over matched events."""
    found, true = events_of(result)
    pairs, events = matched(found, true), result["actogram"]["events"]
    speeds = [each["speed"] for each in result["true"] if each["what"] != PROBE]
    named = [(i, j) for i, j in pairs if found[i].what is not None]
    return {
        "found": len(found),
        "true": len(true),
        "matched": len(pairs),
        "matched_by_label": len(matched(found, true, by_label=True)),
        "overlap": sum(overlap(found[i], true[j]) for i, j in pairs),
        "log_speed": sum(np.log(max(0.1, events[i]["speed"]) / speeds[j]) for i, j in pairs),
        "named": len(named),
        "right": sum(found[i].what == true[j].what for i, j in named),
        "still_s": result["actogram"]["still_s"],
        "minutes": result["actogram"]["judged_s"] / 60,
    }


def figures_of(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Every figure with its 95 % interval over women (`NAME_low`, `NAME_high`)."""
    rows = [counts_of(each) for each in results]
    table = {name: np.array([row[name] for row in rows], float) for name in rows[0]}
    pieces = [
        (
            i,
            moves_in(events_of(each)[1], chunk),
            score_of(each["actogram"]["time_s"], each["actogram"]["activity"], chunk),
        )
        for i, each in enumerate(results)
        for chunk in chunks(each["actogram"]["seconds"])
    ]
    who, moves, scores = (np.array(each) for each in zip(*pieces, strict=True))
    wins = wins_of(who, moves, scores, len(results))
    high, low = (np.bincount(who[each], minlength=len(results)) for each in (moves, ~moves))

    def statistics(weights: np.ndarray) -> dict[str, np.ndarray]:
        sums = {name: weights @ values for name, values in table.items()}
        with np.errstate(invalid="ignore", divide="ignore"):
            return {
                "precision": sums["matched"] / sums["found"],
                "recall": sums["matched"] / sums["true"],
                "label_precision": sums["matched_by_label"] / sums["found"],
                "label_recall": sums["matched_by_label"] / sums["true"],
                "overlap": sums["overlap"] / sums["matched"],
                "speed_ratio": np.exp(sums["log_speed"] / sums["matched"]),
                "named": sums["named"] / sums["matched"],
                "named_right": sums["right"] / sums["named"],
                "false_per_minute": (sums["found"] - sums["matched"]) / sums["minutes"],
                "auroc": np.einsum("di,ij,dj->d", weights, wins, weights) / ((weights @ high) * (weights @ low)),
            }

    women = len(results)
    values = statistics(np.ones((1, women)))
    draws = bootstrap(statistics, women, DRAWS, seed=0)
    figures: dict[str, Any] = {}
    for name, value in values.items():
        if np.isfinite(value[0]):
            low, high = (float(bound) for bound in percentile_interval(draws[name], 0.95, women))
            figures[name] = float(value[0])
            if np.isfinite(low):
                figures |= {f"{name}_low": low, f"{name}_high": high}
    counts = {name: int(table[name].sum()) for name in ("found", "true", "matched")}
    return figures | counts | {"chunks": len(pieces), "moving_chunks": int(moves.sum())}


def wins_of(who: np.ndarray, moves: np.ndarray, scores: np.ndarray, women: int) -> np.ndarray:
    """How often a chunk with movement of one woman scores higher than one without of another, float [women, women];
    equal scores count a half. who: int [chunks]; moves: bool [chunks]."""
    higher = (scores[moves, None] > scores[~moves]) + 0.5 * (scores[moves, None] == scores[~moves])
    wins = np.zeros((women, women))
    np.add.at(wins, (who[moves, None], who[~moves]), higher)
    return wins


def tuning(results: Sequence[dict[str, Any]]) -> list[str]:
    """Counts of events for other limits than BEGINS and ENDS, without the bridges and the label."""
    lines = ["begins  ends  found  true  matched"]
    for begins, ends in product((6.0, 6.5, 7.0, BEGINS, 8.0, 9.0), (4.5, ENDS, 6.0)):
        total = np.zeros(3, int)
        for result in results:
            time, activity = (np.array(result["actogram"][name]) for name in ("time_s", "activity"))
            spans = [Moved(None, time[a], time[b - 1]) for a, b in spells(activity, begins, ends) if b - a > 3]
            true = events_of(result)[1]
            total += len(spans), len(true), len(matched(spans, true))
        lines.append(f"{begins:6g} {ends:5g} {total[0]:6} {total[1]:5} {total[2]:8}")
    return lines


def claims_of(
    figures: dict[str, Any], results: Sequence[dict[str, Any]], seconds: float, command: str, network: str
) -> Iterator[dict[str, Any]]:
    """The claims of the result file; network: in words."""
    women = len(results)
    shared = {
        "data": f"synthetic hospital, long cines of the scene `moving`, seed {TESTED_ON}, {seconds:g} s each",
        "split_unit": "patient: limits and network were made with other women",
        "n": {"patients": women, "sites": len({each["site"] for each in results}), "events": figures["true"]},
        "seeds": [TESTED_ON],
        "interval": "95 %, bootstrap over patients",
        "command": command,
        "machine": ", ".join(f"{key} {value}" for key, value in machine().items()),
        "date": date.today().isoformat(),
        "outcome": "measured",
    }

    def claim(words: str, *names: str, **changes: Any) -> dict[str, Any]:
        ends = {name + end for name in names for end in ("", "_low", "_high")}
        wanted = {key: value for key, value in figures.items() if key in ends}
        known = any(key.endswith("_low") for key in wanted)
        without = {} if known else {"interval": "none: the value is the same in nearly every draw"}
        return {"claim": words, "figures": wanted} | shared | without | changes

    yield claim(
        "An actogram finds movements of the fetus with a precision of {precision:.3f} and a recall of {recall:.3f}, "
        "and {false_per_minute:.2f} wrong events a minute (same event: overlap in time of 0.3 or more).",
        *("precision", "recall", "false_per_minute", "overlap", "found", "true", "matched"),
    )
    yield claim(
        f"Whether anything moves within 10 s is found with an AUROC of {{auroc:.3f}}. CURL reports {CURL} on real "
        "cines of 92 women, which is another data set and no comparison.",
        *("auroc", "chunks", "moving_chunks"),
    )
    yield claim(
        "The speed of an event is {speed_ratio:.2f} times the true one (geometric mean).", "speed_ratio", "matched"
    )
    if "named_right" in figures:
        yield claim(
            f"{network} names the part of {{named:.1%}} of the movements that are found, and {{named_right:.1%}} of "
            "these names are right; with the label, precision is {label_precision:.3f} and recall {label_recall:.3f}.",
            *("named", "named_right", "label_precision", "label_recall"),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("workspaces/actogram"))
    parser.add_argument("--model", type=Path, help="package of a network that names what moves; default: none")
    parser.add_argument("--train", action="store_true", help="train that network first, on other women")
    parser.add_argument("--tune", action="store_true", help="only print the counts for other limits, on other women")
    parser.add_argument("--women", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--drift", type=float, default=10.0, help="mm/s, the fastest mean speed of the probe")
    parser.add_argument("--size", type=int, default=96, help="px of the network that is trained")
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--sequences", type=int, default=160, help="of each label, to train on")
    parser.add_argument("--name", default="actogram", help="of the result file")
    chosen = parser.parse_args()
    streamer = _streamer(chosen)
    seed = TUNED_ON if chosen.tune else TESTED_ON
    films = filmed(chosen.folder, seed, chosen.women, chosen.seconds, chosen.drift)
    results = observed(films, streamer)
    if chosen.tune:
        print("\n".join(tuning(results)))
        return
    figures = figures_of(results)
    print("\n".join(f"{name:18} {value:.4g}" for name, value in figures.items()))
    command = f"python -m benchmarks actogram --women {chosen.women} --seconds {chosen.seconds:g}"
    command += " --train" if chosen.train else f" --model {chosen.model}" if chosen.model else ""
    command += "" if chosen.drift == 10.0 else f" --drift {chosen.drift:g}"
    trained_on = "the scene `moving`" if chosen.train else "the old scene, as in the demo,"
    network = f"A network that was trained on {trained_on}"
    print(write_claims(chosen.name, claims_of(figures, results, chosen.seconds, command, network)))


def _streamer(chosen: argparse.Namespace) -> Any:
    if not chosen.train and not chosen.model:
        return None
    import torch

    from fetalflow.inference.streaming.streamer import open_stream

    torch.set_num_threads(1)
    if chosen.train:
        return open_stream(trained(chosen.folder, TRAINED_ON, chosen.sequences, chosen.size, chosen.epochs))
    return open_stream(chosen.model)


if __name__ == "__main__":
    main()
